# ollama 0.33.0 serving bartowski/Meta-Llama-3.1-8B-Instruct-GGUF on 1xA100-SXM4-80GB
# Start:  powershell -ExecutionPolicy Bypass -File windows.ps1
# A container on Windows would reach the GPU through WSL2 only: Ollama runs natively instead.
# The limits are environment variables of this start. Quit the Ollama app in the task bar first: it holds the port.
$ErrorActionPreference = 'Stop'
Set-Location -LiteralPath $PSScriptRoot
$Health = 'http://127.0.0.1:11434/api/version'
$StartBudgetSeconds = 905

function Wait-UntilReady($Process) {
  $Deadline = (Get-Date).AddSeconds($StartBudgetSeconds)
  while ($true) {
    try { Invoke-WebRequest -UseBasicParsing -TimeoutSec 5 -Uri $Health | Out-Null; return } catch { }
    if ($Process.HasExited) { throw "the server ended with code $($Process.ExitCode)" }
    if ((Get-Date) -gt $Deadline) { throw "it does not serve after $StartBudgetSeconds s" }
    Start-Sleep -Seconds 2
  }
}
$env:OLLAMA_CONTEXT_LENGTH = '8192'
$env:OLLAMA_FLASH_ATTENTION = '1'
$env:OLLAMA_HOST = '127.0.0.1:11434'
$env:OLLAMA_KEEP_ALIVE = '-1'
$env:OLLAMA_LOAD_TIMEOUT = '300s'
$env:OLLAMA_MAX_LOADED_MODELS = '1'
$env:OLLAMA_MAX_QUEUE = '128'
$env:OLLAMA_NUM_PARALLEL = '4'
$Model = 'llama3.1-8b'
if (-not (Get-Command ollama.exe -ErrorAction SilentlyContinue)) { throw 'Ollama is not installed: https://ollama.com/download (version 0.33.0 is planned)' }
$Server = Start-Process -PassThru -NoNewWindow -FilePath ollama.exe -ArgumentList 'serve'
Wait-UntilReady $Server
& ollama.exe create $Model -f Modelfile
if ($LASTEXITCODE -ne 0) { throw 'the model was not created' }
# loads it; Windows PowerShell would drop the empty prompt of `ollama run`, which then waits for a user
$Body = [Text.Encoding]::UTF8.GetBytes((@{ model = $Model } | ConvertTo-Json))
$Load = 'http://127.0.0.1:11434/api/generate'
Invoke-RestMethod -Method Post -Uri $Load -ContentType 'application/json' -Body $Body -TimeoutSec $StartBudgetSeconds | Out-Null
Write-Host 'ready: http://127.0.0.1:11434/v1'
Wait-Process -Id $Server.Id

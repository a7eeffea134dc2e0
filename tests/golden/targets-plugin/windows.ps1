# vllm 0.33.0 serving meta-llama/Llama-3.1-8B-Instruct on 2xA100-SXM4-80GB
# Start:  powershell -ExecutionPolicy Bypass -File windows.ps1
# vLLM has no build for Windows: it runs in WSL2 on the NVIDIA driver of Windows; no driver is installed inside.
# Needs: WSL2 with Ubuntu (wsl --install -d Ubuntu). WSL2 takes half of the machine's memory unless .wslconfig in the
# user's folder says more; this plan wants 26 GiB:
#   [wsl2]
#   memory=26GB
# Afterwards:  wsl --shutdown
$ErrorActionPreference = 'Stop'
Set-Location -LiteralPath $PSScriptRoot
$Health = 'http://127.0.0.1:8000/health'
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
if (-not $env:HF_TOKEN) { throw 'this model is gated: accept its licence on huggingface.co, then set $env:HF_TOKEN' }
if (-not (Get-Command wsl.exe -ErrorAction SilentlyContinue)) { throw 'WSL2 is not installed: wsl --install -d Ubuntu' }
# hands the token to Linux; it is written nowhere
$env:WSLENV = (@($env:WSLENV, 'HF_TOKEN/u') | Where-Object { $_ }) -join ':'
$Server = Start-Process -PassThru -NoNewWindow -FilePath wsl.exe -ArgumentList 'bash', './wsl-vllm.sh'
Wait-UntilReady $Server
Write-Host 'ready: http://127.0.0.1:8000/v1'
Wait-Process -Id $Server.Id

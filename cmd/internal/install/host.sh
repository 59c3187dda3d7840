#!/bin/sh
# Puts the agent of the cell {{.Cell}} onto this machine. It may be run again.
{{- if .Token}} It holds the cell's token, which works once:
# keep this file to yourself, and delete it once the cell is there.
{{- end}}
set -eu
umask 077
fail() { echo "bootstrap of {{.Cell}}: $1" >&2; exit 1; }
sluice={{quote .Program}}
command -v "$sluice" >/dev/null || fail "there is no $sluice here: install Sluice first"
sluice=$(command -v "$sluice")
{{- if .Systemd}}
# With DESTDIR, the files go below that folder and no service is started: to look at them, or to make an image.
root=${DESTDIR:-}
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "it makes a service, so only root can run it"
[ -n "$root" ] || command -v systemctl >/dev/null || fail "there is no systemd here: use bootstrap's --service none"
{{- range .Registries}}
hosts="$root/etc/containerd/certs.d/{{.}}/hosts.toml"
[ ! -e "$hosts" ] || head -n 1 "$hosts" | grep -qxF {{quote mark}} ||
  fail "somebody else wrote $hosts: add containerd's host http://{{$.ImagesListen}} to it and leave out --images, or remove it"
{{- end}}
{{- end}}
{{if .Token}}
SLUICE_JOIN={{quote .Token}}
export SLUICE_JOIN
"$sluice" agent preflight --dir "{{if .Systemd}}$root{{end}}"{{quote .Dir}} --state "{{if .Systemd}}$root{{end}}"{{quote .State}} ||
  fail "see above; nothing was changed"
{{- end}}
{{if .Systemd}}
if [ -z "$root" ] && ! id {{quote .User}} >/dev/null 2>&1; then
  useradd --system --home-dir {{quote .State}} --shell /usr/sbin/nologin {{quote .User}}
fi
own() { [ -n "$root" ] || chown {{quote .User}} "$1"; }
mkdir -p "$root/etc/sluice" "$root/etc/systemd/system" "$root"{{quote .State}} "$root"{{quote .Dir}}
chmod 0755 "$root/etc/sluice"
own {{quote .State}}
own {{quote .Dir}}
{{- if .Token}}
printf '%s\n' "$SLUICE_JOIN" >"$root{{.JoinFile}}"
own {{.JoinFile}}
{{- end}}
{ # a proxy that this shell uses is the agent's too
  [ -z "${HTTPS_PROXY:-}" ] || printf 'HTTPS_PROXY=%s\n' "$HTTPS_PROXY"
  [ -z "${NO_PROXY:-}" ] || printf 'NO_PROXY=%s\n' "$NO_PROXY"
} >"$root/etc/sluice/{{.Cell}}.env"
umask 022
sed "s|@sluice@|$sluice|" >"$root/etc/systemd/system/{{.Unit}}" <<'END'
[Unit]
Description=Sluice: agent of the cell {{.Cell}}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
User={{.User}}
EnvironmentFile=-/etc/sluice/{{.Cell}}.env
ExecStart=@sluice@ agent{{range .Arguments}} {{systemd .}}{{end}}
Restart=always
RestartSec=5
TimeoutStopSec=60
Delegate=yes
NoNewPrivileges=true
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths={{systemd .Dir}} {{systemd .State}}
PrivateTmp=true
ProtectClock=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true

[Install]
WantedBy=multi-user.target
END
{{- range .Registries}}
mkdir -p "$root/etc/containerd/certs.d/{{.}}"
cat >"$root/etc/containerd/certs.d/{{.}}/hosts.toml" <<'END'
{{hosts . $.ImagesListen -}}
END
{{- end}}
[ -z "$root" ] || { echo "the files are below $root"; exit 0; }
systemctl daemon-reload
systemctl enable {{.Unit}}
systemctl restart {{.Unit}}
echo "the agent runs: journalctl -u {{.Unit}} shows what it does"
{{- else}}
exec "$sluice" agent{{range .Arguments}} {{quote .}}{{end}}
{{- end}}

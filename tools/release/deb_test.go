package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// checkPackage reads a package with Debian's tools, installs it below a folder, and removes it.
func checkPackage(ctx context.Context, t *testing.T, path string) {
	fields := runProgram(ctx, t, "dpkg-deb", "--info", path)
	for _, field := range []string{"Package: sluice", "Version: 1.2.3~rc.1", "Depends: git", "Section: admin"} {
		if !strings.Contains(fields, "\n "+field+"\n") {
			t.Errorf("the package lacks %q:\n%s", field, fields)
		}
	}
	if conffiles := runProgram(ctx, t, "dpkg-deb", "--info", path, "conffiles"); strings.Fields(conffiles)[0] !=
		"/etc/sluice/agent.env" || strings.Count(conffiles, "\n") != 2 {
		t.Errorf("conffiles: %q", conffiles)
	}
	contents := runProgram(ctx, t, "dpkg-deb", "--contents", path)
	for _, want := range []string{
		`-rwxr-xr-x root/root .* 2026-11-29 12:30 \./usr/bin/sluice`,
		`-rw------- root/root .* \./etc/sluice/serve\.env`,
		`-rw------- root/root .* \./etc/sluice/agent\.env`,
		`-rw-r--r-- root/root .* \./usr/lib/sysusers\.d/sluice\.conf`,
		`-rw-r--r-- root/root .* \./usr/share/doc/sluice/monitoring/alerts\.yaml`,
		`.* \./usr/share/doc/sluice/operating\.md`,
		`.* \./usr/share/bash-completion/completions/sluice`, `.* \./usr/share/zsh/vendor-completions/_sluice`,
		`-rw-r--r-- root/root .* \./usr/share/doc/sluice/copyright`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(contents) {
			t.Errorf("the package has no %s:\n%s", want, contents)
		}
	}
	if strings.Count(contents, "\n") != strings.Count(contents, " 2026-11-29 12:30 ") {
		t.Errorf("a file has another time than the commit:\n%s", contents)
	}
	checkUnits(ctx, t, path)
	checkInstallation(ctx, t, path)
}

// checkUnits has systemd read the units, with the binary where the package was unpacked, and judge how far they are
// shut in.
func checkUnits(ctx context.Context, t *testing.T, path string) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Log("without systemd its units are not read")
		return
	}
	root := t.TempDir()
	runProgram(ctx, t, "dpkg-deb", "--extract", path, root)
	for unit, most := range map[string]string{"sluice-serve.service": "20", "sluice-agent.service": "45"} {
		file := filepath.Join(root, "usr/lib/systemd/system", unit)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		moved := strings.ReplaceAll(string(text), "=/usr/bin/sluice ", "="+filepath.Join(root, "usr/bin/sluice")+" ")
		if err := os.WriteFile(file, []byte(moved), 0o644); err != nil {
			t.Fatal(err)
		}
		if said := runProgram(ctx, t, "systemd-analyze", "verify", "--man=no", file); strings.Contains(said, unit) {
			t.Errorf("systemd says of %s: %s", unit, said)
		}
		runProgram(ctx, t, "systemd-analyze", "security", "--offline=true", "--threshold="+most, file)
	}
}

// checkInstallation installs the package twice, as an upgrade does, and purges it.
func checkInstallation(ctx context.Context, t *testing.T, path string) {
	dpkg, root := dpkgBelow(ctx, t)
	dpkg("--install", path)
	if _, err := exec.LookPath("systemd-sysusers"); err == nil {
		users, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
		if err != nil || !strings.Contains(string(users), "sluice:x:") ||
			!strings.Contains(string(users), "sluice-agent:x:") {
			t.Errorf("the users are missing: %v\n%s", err, users)
		}
	}
	settings := filepath.Join(root, "etc/sluice/serve.env")
	if info, err := os.Stat(settings); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("serve.env: %v, %v", info, err)
	}
	const mine = "SLUICE_REPO=/srv/git/releases.git\n"
	if err := os.WriteFile(settings, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(root, "var/lib/sluice")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	dpkg("--install", path)
	if kept, err := os.ReadFile(settings); err != nil || string(kept) != mine {
		t.Errorf("after an upgrade serve.env is %q, %v", kept, err)
	}
	dpkg("--purge", "sluice")
	if _, err := os.Stat(filepath.Join(root, "etc/sluice")); !os.IsNotExist(err) {
		t.Errorf("purged, and /etc/sluice is still there: %v", err)
	}
	if _, err := os.Stat(keys); err != nil {
		t.Errorf("the keys are gone: %v", err)
	}
}

// checkAgentPackage looks at the package of sluice-agent, and has it take the place of the other.
func checkAgentPackage(ctx context.Context, t *testing.T, path, whole string) {
	fields := runProgram(ctx, t, "dpkg-deb", "--info", path)
	for _, field := range []string{"Package: sluice-agent", "Conflicts: sluice", "Replaces: sluice"} {
		if !strings.Contains(fields, "\n "+field+"\n") {
			t.Errorf("the package lacks %q:\n%s", field, fields)
		}
	}
	if strings.Contains(fields, "Depends: ") {
		t.Errorf("the agent needs another package:\n%s", fields)
	}
	contents := runProgram(ctx, t, "dpkg-deb", "--contents", path)
	for _, want := range []string{"usr/bin/sluice", "etc/sluice/agent.env", "usr/lib/sysusers.d/sluice-agent.conf",
		"usr/lib/systemd/system/sluice-agent.service", "usr/share/doc/sluice/cell.md",
		"usr/share/doc/sluice-agent/copyright"} {
		if !strings.Contains(contents, " ./"+want+"\n") {
			t.Errorf("the package has no %s:\n%s", want, contents)
		}
	}
	if strings.Contains(contents, "sluice-serve") || strings.Contains(contents, "serve.env") {
		t.Errorf("the package has a part of the control plane's:\n%s", contents)
	}
	dpkg, root := dpkgBelow(ctx, t)
	settings := filepath.Join(root, "etc/sluice/agent.env")
	dpkg("--install", whole)
	const mine = "SLUICE_AGENT_FLAGS=\"--dir /srv/shop\"\n"
	if err := os.WriteFile(settings, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	dpkg("--remove", "sluice") // as apt does for a package that conflicts
	dpkg("--install", path)
	dpkg("--purge", "sluice")
	if kept, err := os.ReadFile(settings); err != nil || string(kept) != mine {
		t.Errorf("sluice-agent took the place of sluice, and agent.env is %q, %v", kept, err)
	}
	if _, err := os.Stat(filepath.Join(root, "etc/sluice/serve.env")); !os.IsNotExist(err) {
		t.Errorf("sluice is purged, and its settings are still there: %v", err)
	}
	dpkg("--purge", "sluice-agent")
	if _, err := os.Stat(filepath.Join(root, "etc/sluice")); !os.IsNotExist(err) {
		t.Errorf("purged, and /etc/sluice is still there: %v", err)
	}
}

// dpkgBelow returns a function that runs dpkg for a system below a folder, which is empty.
func dpkgBelow(ctx context.Context, t *testing.T) (dpkg func(args ...string), root string) {
	t.Helper()
	root = t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) {
		t.Helper()
		runProgram(ctx, t, "dpkg", append([]string{"--root=" + root, "--force-depends", "--force-script-chrootless",
			"--force-not-root", "--log=" + filepath.Join(root, "log")}, args...)...)
	}, root
}

// dpkg orders versions as they were released.
func TestDebianVersion(t *testing.T) {
	t.Parallel()
	versions := []string{"v0.0.0-20261129123000-0123456789ab", "v1.2.3-rc.1", "v1.2.3-rc.2", "v1.2.3",
		"v1.2.4-0.20261201000000-ab0123456789", "v1.2.4", "v1.10.0-alpha-2", "v1.10.0"}
	for i := range versions[1:] {
		older, newer := debianVersion(versions[i]), debianVersion(versions[i+1])
		if out, err := exec.Command("dpkg", "--compare-versions", older, "lt", newer).CombinedOutput(); err != nil {
			t.Errorf("dpkg does not order %s before %s: %v %s", older, newer, err, out)
		}
	}
}

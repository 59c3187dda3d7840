package window

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Issue 13: which zones there are does not depend on the machine.
func TestZonesOfTheProgram(t *testing.T) {
	for _, name := range []string{"", "UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5"} {
		if zone, err := LoadZone(name); err != nil || name != "" && zone.String() != name {
			t.Errorf("%q: %v, %v", name, zone, err)
		}
	}
	for _, name := range []string{"Local", "posix/Europe/Berlin", "right/UTC", "posixrules", "Europe", "Europe/", ".",
		"../UTC", "/UTC", "europe/berlin", "localtime", "leapseconds", "tzdata.zi", strings.Repeat("a", 1000)} {
		if zone, err := LoadZone(name); err == nil {
			t.Errorf("%q is %v", name, zone)
		}
	}
	t.Setenv("ZONEINFO", t.TempDir())
	if _, err := LoadZone("Europe/Berlin"); err != nil {
		t.Error(err)
	}
}

// The data are those of the Go toolchain that builds the program.
func TestZoneDataAreTheToolchains(t *testing.T) {
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal([]byte(zoneinfo), want) {
		t.Error("copy lib/time/zoneinfo.zip of the Go toolchain to internal/window")
	}
}

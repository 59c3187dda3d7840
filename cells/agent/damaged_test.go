package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
)

// R47: with a damaged file of its state the agent starts, puts the file aside, and is told again what it should run.
func TestR47DamagedStateIsPutAside(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]struct{ file, content string }{
		"journal of zeros":      {"journal.json", string(make([]byte, 300))},
		"journal cut short":     {"journal.json", `{"cell":"acme","accep`},
		"journal of another":    {"journal.json", "{}"},
		"outbox begins wrongly": {"outbox", "garbage\n"},
		"outbox of zeros":       {"outbox", string(make([]byte, 300)) + "\n"},
		"offer cut short":       {"offered.json", `{"head":`},
		"reports cut short":     {"reported.json", `{"state":`},
		"flags of zeros":        {"flags.json", string(make([]byte, 300))},
		"clock of another":      {"clock.json", "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			s := newSettings(t, p)
			one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
			p.assign(one)
			c := start(t, s)
			p.await(t, "healthy", healthyOn(one))
			c.stop()
			must(t, os.WriteFile(filepath.Join(s.State, damage.file), []byte(damage.content), 0o600))
			since := p.reportCount()
			start(t, s)
			p.awaitAfter(t, since, "healthy again", func(r cells.Report) bool { return healthyOn(one)(r) })
			aside, err := filepath.Glob(filepath.Join(s.State, damage.file+".damaged-*"))
			must(t, err)
			if len(aside) != 1 {
				t.Fatalf("put aside: %v", aside)
			}
			if text, err := os.ReadFile(aside[0]); err != nil || string(text) != damage.content {
				t.Errorf("put aside: %q, %v", text, err)
			}
		})
	}
}

// R47: a folder where a file should be, or a file where a folder should be, is put aside too.
func TestR47WrongKindsArePutAside(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	c := start(t, s)
	p.await(t, "healthy", healthyOn(one))
	c.stop()
	names := []string{"journal.json", "outbox", "lock", "clock.json", "flags.json", "releases", "rendered", "work"}
	for _, name := range names {
		file := filepath.Join(s.State, name)
		info, err := os.Stat(file)
		must(t, os.RemoveAll(file))
		if err == nil && info.IsDir() {
			must(t, os.WriteFile(file, []byte("x"), 0o600))
		} else {
			must(t, os.MkdirAll(filepath.Join(file, "x"), 0o700))
		}
	}
	since := p.reportCount()
	start(t, s)
	p.awaitAfter(t, since, "healthy again", healthyOn(one))
	aside, err := filepath.Glob(filepath.Join(s.State, "*.damaged-*"))
	must(t, err)
	if len(aside) != len(names) {
		t.Errorf("put aside: %v", aside)
	}
}

func awaitRestored(t *testing.T, file string) {
	t.Helper()
	for {
		if _, err := os.Stat(file); err == nil {
			return
		}
		must(t, t.Context().Err())
		time.Sleep(10 * time.Millisecond)
	}
}

// R47: a damaged identity is mended from its copy; without one the agent starts nevertheless, keeps what runs running
// and healed, and goes on as the same cell with a new token.
func TestR47DamagedIdentity(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]string{"zeros": string(make([]byte, 300)), "empty": "",
		"cut short": `{"cell":"acme"`} {
		for _, both := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", both: ", both), func(t *testing.T) {
				t.Parallel()
				k := newKeyedControlPlane(t)
				s := k.newSettings(t, k.newToken(t, "acme"))
				one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
				k.assign(one)
				c := start(t, s)
				k.await(t, "healthy", healthyOn(one))
				c.stop()
				key := readCredentials(t, s.State).Key
				must(t, os.WriteFile(credentialsFile(s.State), []byte(damage), 0o600))
				if both {
					must(t, os.WriteFile(filepath.Join(s.State, "identity.copy.json"), []byte(damage), 0o600))
				}
				s.Join, s.Cell = "", ""
				since := k.reportCount()
				if !both {
					start(t, s)
					k.awaitAfter(t, since, "healthy again", healthyOn(one))
					if now := readCredentials(t, s.State); !bytes.Equal(now.Key, key) {
						t.Error("it has another key")
					}
				} else {
					drifted := filepath.Join(s.Dir, "current", "manifests.yaml")
					must(t, os.Remove(drifted))
					c := start(t, s)
					awaitRestored(t, drifted)
					c.stop()
					must(t, os.Remove(drifted))
					c = start(t, s) // once more: nothing but the key is lost
					awaitRestored(t, drifted)
					c.stop()
					if cell, keyed, err := StateDirCell(s.State); cell != "acme" || err != nil {
						t.Errorf("the folder is of %q, %v, %v", cell, keyed, err)
					}
					s.Join = k.newToken(t, "acme").String()
					start(t, s)
					k.awaitAfter(t, since, "healthy with a new token", healthyOn(one))
				}
				aside, err := filepath.Glob(credentialsFile(s.State) + ".damaged-*")
				must(t, err)
				if len(aside) != 1 {
					t.Errorf("put aside: %v", aside)
				}
			})
		}
	}
}

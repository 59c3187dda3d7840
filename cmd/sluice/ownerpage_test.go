package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// R18: the command line that the owner's page shows writes what the page itself would write.
func TestR18TheCommandLineDoesTheSame(t *testing.T) {
	digest := releases.DigestBytes([]byte("1.1.0"))
	w := window.Window{Opens: "0 22 * * SAT", For: 4 * time.Hour, Zone: "Europe/Berlin"}
	if wrong := w.Compile(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	offer := `{"head":{"channel":"stable","release":"1.1.0","digest":"` + string(digest) + `","sequence":2}}`
	for _, d := range []owner.Decision{
		owner.Pause("it's \"quarter end\"; $HOME"), owner.Unpause(), owner.Pin("1.1.0", digest), owner.Unpin(),
		owner.AddWindow(w, time.Now()), owner.RemoveWindow("1"), owner.RemoveWindows(), owner.RequireApproval(true),
		owner.RequireApproval(false), owner.Approve(owner.Candidate{Release: "1.1.0", Digest: digest,
			Channel: "stable"}),
		owner.HoldFeature("classes", "after May"), owner.ReleaseFeature("classes"), owner.EndMaintenance(),
		owner.BeginMaintenance(maintenance.Owner{Since: time.Now(), Until: until, Reason: "disks"}),
	} {
		var texts [2]string
		for i := range texts {
			state := t.TempDir()
			if err := os.WriteFile(filepath.Join(state, "offered.json"), []byte(offer), 0o600); err != nil {
				t.Fatal(err)
			}
			decide(t, state, func(o *cells.Owner) error { // something to end, remove and keep
				o.Paused, o.Pin, o.Features = "before", "1.0.0", []string{"classes"}
				o.Windows = []window.Window{{Opens: "0 9 * * *", For: time.Hour}}
				o.Maintenance = &maintenance.Owner{Since: until.Add(-2 * time.Hour), Until: until, Reason: "before"}
				return nil
			})
			if i == 0 {
				decide(t, state, func(o *cells.Owner) error { _, err := d.Change(o); return err })
			} else {
				cmd := root(cli.NewApp(os.Environ(), nil, io.Discard, io.Discard))
				cmd.SetArgs(append(append([]string{"cell"}, d.Command...), "--state", state))
				if err := cmd.ExecuteContext(t.Context()); err != nil {
					t.Errorf("%q: %v", d.Command, err)
				}
			}
			o, err := agent.LoadOwner(state)
			if err != nil {
				t.Fatal(err)
			}
			if o.Maintenance != nil {
				o.Maintenance.Since = time.Time{} // of the call
			}
			text, err := agent.EncodeOwner(o)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = string(text)
		}
		if texts[0] != texts[1] {
			t.Errorf("%q: the page writes\n%s\nand the command line\n%s", d.Command, texts[0], texts[1])
		}
	}
}

func decide(t *testing.T, state string, change func(*cells.Owner) error) {
	t.Helper()
	if _, err := agent.ChangeOwner(state, change); err != nil {
		t.Fatal(err)
	}
}

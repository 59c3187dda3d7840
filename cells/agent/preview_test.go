package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// The agent gets what waits for the owner's approval, and nothing else: not what runs, nor a head without approval.
func TestUndecidedRelease(t *testing.T) {
	one, two := releases.DigestBytes([]byte("1")), releases.DigestBytes([]byte("2"))
	runs, next := &cells.Assignment{Digest: one}, &cells.Assignment{Digest: two}
	head := &cells.Head{Digest: two}
	approval := &cells.Owner{Approval: true}
	for name, c := range map[string]struct {
		offer Offer
		owner *cells.Owner
		want  releases.Digest
	}{
		"nothing is offered":         {Offer{}, nil, ""},
		"it may begin":               {Offer{Assignment: next, Running: runs}, nil, ""},
		"the owner paused the cell":  {Offer{Assignment: next, Running: runs, Waits: "paused"}, nil, ""},
		"it waits for the owner":     {Offer{Assignment: next, Running: runs, Waits: "approval"}, approval, two},
		"nothing runs yet":           {Offer{Assignment: next, Waits: "approval"}, approval, two},
		"it runs already":            {Offer{Assignment: runs, Running: runs, Waits: "paused"}, nil, ""},
		"a head to approve":          {Offer{Head: head, Assignment: runs, Running: runs}, approval, two},
		"a head without approval":    {Offer{Head: head, Assignment: runs, Running: runs}, nil, ""},
		"the approved head runs":     {Offer{Head: head, Assignment: next, Running: next}, approval, ""},
		"an assignment that differs": {Offer{Head: head, Assignment: runs, Waits: "paused"}, approval, one},
	} {
		if got := undecided(c.offer, c.owner); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// The owner's command reads the agent's copies and never changes them, whatever digest it is told.
func TestKeptReleases(t *testing.T) {
	dir := t.TempDir()
	d := releases.DigestBytes([]byte("1"))
	kept := KeptReleases{StateDir: dir}
	if _, err := kept.Open(context.Background(), d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not there yet: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "releases"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "releases", d.Hex()+".tar")
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := kept.Open(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := kept.Remove(d); err == nil {
		t.Error("removed the agent's file")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	if f, err := kept.Open(context.Background(), "sha256:../../owner"); err == nil {
		f.Close()
		t.Error("opened what is no digest")
	}
}

package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// R25: a cell that was removed and added again is another cell, for which the old key and old tokens are invalid,
// whether or not the branch was fetched in between.
func TestReaddedCellStartsAnew(t *testing.T) {
	for name, watched := range map[string]bool{"in two looks": true, "while nobody looked": false} {
		t.Run(name, func(t *testing.T) {
			runReplicas(t, TwoChannels(t), func(r *replicas) {
				r.addToken("t1", "s1")
				r.mustJoin(r.a, "t1", "s1", "ed25519:one")
				r.wantCellOf("ed25519:one", "s1")
				if i := r.committedIdentity("s1"); i.PublicKey != "ed25519:one" {
					r.t.Fatalf("committed %+v", i)
				}
				r.addToken("left", "s1")
				removal := map[string]string{"cells/s1/cell.yaml": "", "cells/s1/identity.yaml": ""}
				if watched {
					r.push("eve", "remove", removal)
					r.wantCellOf("ed25519:one", "")
					r.push("eve", "add", CellFiles("staging", "s1"))
				} else {
					r.a.stop()
					r.b.stop()
					r.w.Now = time.Now()
					r.w.Commit("eve", "remove", removal)
					r.w.Commit("eve", "add", CellFiles("staging", "s1"))
					r.a, r.b = r.start(r.a.store), r.start(r.b.store)
				}
				time.Sleep(2 * time.Minute)
				r.wantCellOf("ed25519:one", "")
				if _, err := r.a.RegisterKey(r.t.Context(), "s1", "left", "ed25519:three", ""); !errors.Is(err,
					plan.ErrDenied) {
					r.t.Errorf("a token of the cell before: %v", err)
				}
				r.addToken("t2", "s1")
				if _, err := r.b.RegisterKey(r.t.Context(), "s1", "t2", "ed25519:one", ""); !errors.Is(err,
					plan.ErrDenied) {
					r.t.Errorf("the key of the cell before: %v", err)
				}
				r.mustJoin(r.b, "t2", "s1", "ed25519:two")
				r.wantCellOf("ed25519:two", "s1")
				if i := r.committedIdentity("s1"); i.PublicKey != "ed25519:two" || i.Revoked {
					r.t.Errorf("committed %+v", i)
				}
			})
		})
	}
}

// R25: the same holds for a token of a cell that never registered.
func TestTokenOfACellThatNeverRegistered(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.addToken("left", "s1")
		r.push("eve", "remove", map[string]string{"cells/s1/cell.yaml": ""})
		r.push("eve", "add", CellFiles("staging", "s1"))
		if _, err := r.b.RegisterKey(r.t.Context(), "s1", "left", "ed25519:one", ""); !errors.Is(err, plan.ErrDenied) {
			r.t.Errorf("a token of the cell before: %v", err)
		}
		r.addToken("t2", "s1")
		r.mustJoin(r.b, "t2", "s1", "ed25519:two")
		r.wantCellOf("ed25519:two", "s1")
	})
}

// A registration that git does not have yet, and an identity that a push only changes, stay valid.
func TestPresentCellsKeepTheirIdentity(t *testing.T) {
	w := TwoChannels(t)
	runReplicas(t, w, func(r *replicas) {
		r.push("eve", "add", CellFiles("staging", "s9"))
		r.addToken("t9", "s9")
		r.mustJoin(r.b, "t9", "s9", "ed25519:nine")
		r.push("eve", "label", map[string]string{"cells/s9/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\n" +
			"channel: staging\nlabels: {region: eu}\n"})
		r.wantCellOf("ed25519:nine", "s9")
		if i := r.committedIdentity("s9"); i.PublicKey != "ed25519:nine" || i.Revoked {
			r.t.Errorf("committed %+v", i)
		}
		if err := r.a.ChangeIdentity(r.t.Context(), "s9", "ada", func(i *cells.Identity) {
			i.Rotate = true
		}); err != nil {
			r.t.Fatal(err)
		}
		r.push("eve", "label", map[string]string{"cells/s9/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\n" +
			"channel: staging\n"})
		r.wantCellOf("ed25519:nine", "s9")
	})
}

// R47: whoever was shut out by a removal is let in again by the same commit's revert, all cells at once and without new
// tokens, whether or not the engine looked in between. The same key stays out if the cell was revoked, too.
func TestRestoredCellsKeepTheirKeys(t *testing.T) {
	for name, watched := range map[string]bool{"in two looks": true, "while nobody looked": false} {
		t.Run(name, func(t *testing.T) {
			runReplicas(t, TwoChannels(t), func(r *replicas) {
				for cell, key := range map[string]string{"s1": "ed25519:one", "s2": "ed25519:two",
					"acme": "ed25519:three"} {
					r.addToken("t-"+cell, cell)
					r.mustJoin(r.a, "t-"+cell, cell, key)
				}
				r.committedIdentity("s1")
				if err := r.a.ChangeIdentity(t.Context(), "acme", "ada", func(i *cells.Identity) {
					i.Revoked = true
				}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				removal, restored := map[string]string{}, map[string]string{}
				r.branch.mu.Lock() // a push wrote the files
				for _, cell := range []string{"s1", "s2", "acme"} {
					for _, file := range []string{"cell.yaml", "identity.yaml"} {
						at := "cells/" + cell + "/" + file
						removal[at], restored[at] = "", r.w.Files[at]
					}
				}
				r.branch.mu.Unlock()
				if !watched {
					r.a.stop()
					r.b.stop()
					r.w.Now = time.Now()
					r.w.Commit("eve", "remove", removal)
					r.w.Commit("eve", "revert", restored)
					r.a, r.b = r.start(r.a.store), r.start(r.b.store)
				} else {
					r.push("eve", "remove", removal)
					r.wantCellOf("ed25519:one", "")
					r.push("eve", "revert", restored)
				}
				time.Sleep(2 * time.Minute)
				r.wantCellOf("ed25519:one", "s1")
				r.wantCellOf("ed25519:two", "s2")
				r.wantCellOf("ed25519:three", "")
				if err := r.a.ChangeIdentity(t.Context(), "s1", "ada", func(i *cells.Identity) {
					i.Revoked = true
				}); err != nil {
					t.Fatal(err)
				}
				r.wantCellOf("ed25519:one", "")
			})
		})
	}
}

// R47: a fleet that an earlier program shut out, and whose files the engine wrote with revoked: true by their removal,
// is let in again by putting the files back as they were.
func TestFilesWithTheSameKeyLetCellsInAgain(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.addToken("t1", "s1")
		r.mustJoin(r.a, "t1", "s1", "ed25519:one")
		r.committedIdentity("s1")
		const file = "cells/s1/identity.yaml"
		before := r.w.Files[file]
		r.push("eve", "remove", map[string]string{"cells/s1/cell.yaml": "", file: ""})
		r.wantCellOf("ed25519:one", "")
		r.push("eve", "add", CellFiles("staging", "s1")) // without the file: another cell, as far as anyone knows
		time.Sleep(time.Minute)
		if i := r.committedIdentity("s1"); !i.Revoked {
			t.Fatalf("committed %+v", i)
		}
		r.push("eve", "put the files back", map[string]string{file: before})
		time.Sleep(time.Minute)
		r.wantCellOf("ed25519:one", "s1")
		r.push("eve", "another key", map[string]string{file: strings.Replace(before, "one", "evil", 1)})
		time.Sleep(time.Minute)
		r.wantCellOf("ed25519:evil", "")
	})
}

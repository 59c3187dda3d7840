package engine

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
)

// A cell that is renamed keeps its key, on every replica, with what git does not have yet of its identity. Another cell
// that gets the old name later starts anew, and takes nothing from it.
func TestRenamedCellKeepsItsIdentity(t *testing.T) {
	for name, rotated := range map[string]bool{"settled": false, "with a new key that git lacks": true} {
		t.Run(name, func(t *testing.T) {
			runReplicas(t, TwoChannels(t), func(r *replicas) {
				r.addToken("t1", "s1")
				r.mustJoin(r.a, "t1", "s1", "ed25519:one")
				r.committedIdentity("s1")
				key := "ed25519:one"
				if rotated {
					if err := r.a.ChangeIdentity(r.t.Context(), "s1", "ada", func(i *cells.Identity) {
						i.Rotate = true
					}); err != nil {
						r.t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				r.branch.mu.Lock()
				identity, cell := r.w.Files["cells/s1/identity.yaml"], r.w.Files["cells/s1/cell.yaml"]
				r.branch.mu.Unlock()
				if rotated {
					if err := r.a.ReplaceKey(r.t.Context(), "s1", "ed25519:two"); err != nil {
						r.t.Fatal(err)
					}
					key = "ed25519:two"
				}
				r.push("eve", "rename", map[string]string{"cells/s1/cell.yaml": "", "cells/s1/identity.yaml": "",
					"cells/eu/cell.yaml": cell, "cells/eu/identity.yaml": identity})
				time.Sleep(2 * time.Minute)
				r.wantCellOf(key, "eu")
				r.push("eve", "add another s1", CellFiles("staging", "s1"))
				time.Sleep(2 * time.Minute)
				r.wantCellOf(key, "eu")
				r.addToken("t2", "s1")
				r.mustJoin(r.b, "t2", "s1", "ed25519:three")
				r.wantCellOf("ed25519:three", "s1")
				r.wantCellOf(key, "eu")
			})
		})
	}
}

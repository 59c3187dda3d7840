package plan_test

import (
	"slices"
	"strings"
	"testing"

	. "github.com/sluice-cd/sluice/engine/enginetest"
)

// A cell that is renamed as a whole keeps its key, whoever renames it. Anything less moves no key (R46): a copy,
// another text, a name that had a key, or a folder that stays.
func TestRenamedCellKeepsItsKey(t *testing.T) {
	const key = "ed25519:b2xk"
	text := "apiVersion: sluice/v1\nkind: Identity\nepoch: 1\nserial: 2\npublicKey: " + key + "\n"
	other := strings.Replace(text, key, "ed25519:bmV3", 1)
	cell := CellFiles("staging", "s1")["cells/s1/cell.yaml"]
	move := func(more map[string]string) map[string]string {
		return Union(map[string]string{"cells/s1/cell.yaml": "", "cells/s1/identity.yaml": "",
			"cells/eu/cell.yaml": cell, "cells/eu/identity.yaml": text}, more)
	}
	for name, c := range map[string]struct {
		before, change map[string]string
		keys           map[string]string // by cell, afterwards
		faults         int               // that validate reports of identities
	}{
		"renamed": {nil, move(nil), map[string]string{"eu": key}, 0},
		"renamed, labels added": {nil, move(map[string]string{"cells/eu/cell.yaml": cell + "labels: {a: b}\n"}),
			map[string]string{"eu": key}, 0},
		"copied": {nil, map[string]string{"cells/eu/cell.yaml": cell, "cells/eu/identity.yaml": text},
			map[string]string{"s1": key, "eu": ""}, 3},
		"with another key": {nil, move(map[string]string{"cells/eu/identity.yaml": other}),
			map[string]string{"eu": ""}, 1},
		"to a cell that has a key": {map[string]string{"cells/eu/cell.yaml": cell, "cells/eu/identity.yaml": other},
			move(nil), map[string]string{"eu": "ed25519:bmV3"}, 1},
		"the folder stays": {nil, move(map[string]string{"cells/s1/cell.yaml": cell}),
			map[string]string{"s1": key, "eu": ""}, 2},
		"two at once": {map[string]string{"cells/s2/cell.yaml": cell, "cells/s2/identity.yaml": other},
			move(map[string]string{"cells/s2/cell.yaml": "", "cells/s2/identity.yaml": "", "cells/us/cell.yaml": cell,
				"cells/us/identity.yaml": other}),
			map[string]string{"eu": key, "us": "ed25519:bmV3"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := signedWorld(t)
			w.Commit("sluice", "identify s1", Union(map[string]string{"cells/s1/identity.yaml": text}, c.before))
			w.Commit("eve", "rename", c.change)
			check := func(keys map[string]string) {
				t.Helper()
				d := w.Desired()
				for cell, want := range keys {
					if got := d.Cells[cell]; got == nil || got.Identity.PublicKey != want {
						t.Errorf("%s has %+v, want the key %q", cell, got.Identity, want)
					}
				}
			}
			check(c.keys)
			n := 0
			for _, f := range w.Desired().AllFaults() {
				if strings.HasSuffix(f.File, "identity.yaml") && !f.Warning {
					n++
				}
			}
			if n != c.faults {
				t.Errorf("%d faults, want %d: %v", n, c.faults, w.Desired().AllFaults())
			}
			if name != "renamed" {
				return
			}
			// It may go on to another name, be revoked there, and does not come back by a revert of half of it.
			w.Commit("eve", "rename once more", map[string]string{"cells/eu/cell.yaml": "",
				"cells/eu/identity.yaml": "", "cells/us/cell.yaml": cell, "cells/us/identity.yaml": text})
			check(map[string]string{"us": key})
			w.Commit("eve", "put the first back", map[string]string{"cells/s1/cell.yaml": cell,
				"cells/s1/identity.yaml": text})
			check(map[string]string{"us": key, "s1": ""})
			w.Commit("eve", "revoke", map[string]string{"cells/us/identity.yaml": text + "revoked: true\n"})
			if id := w.Desired().Cells["us"].Identity; !id.Revoked || id.PublicKey != key {
				t.Errorf("revoked: %+v", id)
			}
		})
	}
}

// The keys that a cell had are remembered as far as the engine wrote them, through rotations and a rename, and never
// one that counts.
func TestFormerKeys(t *testing.T) {
	w := signedWorld(t)
	write := func(by, cell, keys string) {
		w.Commit(by, "identify "+cell, map[string]string{"cells/" + cell + "/identity.yaml": "apiVersion: sluice/v1\n" +
			"kind: Identity\nepoch: 1\nserial: 1\n" + keys})
	}
	want := func(cell string, keys ...string) {
		t.Helper()
		if got := w.Desired().Cells[cell].Former; !slices.Equal(got, keys) {
			t.Errorf("%s had %v, want %v", cell, got, keys)
		}
	}
	write("sluice", "s1", "publicKey: ed25519:b25l\n")
	want("s1")
	write("sluice", "s1", "publicKey: ed25519:dHdv\nprevious: ed25519:b25l\n")
	want("s1")
	write("sluice", "s1", "publicKey: ed25519:dHdv\n")
	want("s1", "ed25519:b25l")
	write("eve", "s1", "publicKey: ed25519:ZXZl\n") // counts for nothing
	want("s1", "ed25519:b25l")
	write("sluice", "s1", "publicKey: ed25519:dHJl\n")
	want("s1", "ed25519:b25l", "ed25519:dHdv")
	write("sluice", "s1", "publicKey: ed25519:b25l\n")
	want("s1", "ed25519:dHdv", "ed25519:dHJl")
	w.Commit("eve", "rename", map[string]string{"cells/s1/cell.yaml": "", "cells/s1/identity.yaml": "",
		"cells/eu/cell.yaml":     w.Files["cells/s1/cell.yaml"],
		"cells/eu/identity.yaml": w.Files["cells/s1/identity.yaml"]})
	want("eu", "ed25519:dHdv", "ed25519:dHJl")
	write("sluice", "eu", "publicKey: ed25519:dHdv\n")
	want("eu", "ed25519:dHJl", "ed25519:b25l")
}

// A key that two cells have is a fault of both files, even where no history is read.
func TestCopiedIdentityIsAFault(t *testing.T) {
	w := TwoChannels(t)
	text := "apiVersion: sluice/v1\nkind: Identity\nepoch: 1\nserial: 1\npublicKey: ed25519:b2xk\n"
	w.Commit("sluice", "identify", map[string]string{"cells/s1/identity.yaml": text})
	w.Commit("sluice", "identify", map[string]string{"cells/s2/identity.yaml": text})
	var files []string
	for _, f := range w.Desired().AllFaults() {
		if strings.Contains(f.Message, "has the key of cell") {
			files = append(files, f.File)
		}
	}
	if want := []string{"cells/s1/identity.yaml", "cells/s2/identity.yaml"}; !slices.Equal(files, want) {
		t.Errorf("faults of %v, want %v", files, want)
	}
}

package debugcmd

import (
	"time"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/engine/plan"
)

// vouching is what git says of a request's key, before the cell judges by the same files.
type vouching struct {
	asked bool  // the cell's channel takes only signed releases, so the cell has a root of trust, or should have one
	fault error // why signers do not vouch for the key; nil: they do
}

// readVouching returns what release signers say of a request's key in git.
func readVouching(d *plan.Desired, r *debug.Request, now time.Time) (v vouching) {
	if c := d.Cells[r.Cell]; c == nil || !d.Trust.Binds(c.Channel) {
		return v
	}
	return vouching{asked: true, fault: d.Trust.Policy.Support.Check(r.Person, r.Key, now)}
}

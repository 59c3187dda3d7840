package rows

import (
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

// KeepJoin is how long a token is kept after it ran out: until then its winner may ask for the lost answer (R28).
const KeepJoin = 24 * time.Hour

// Repeats tells whether r asks for what the cell's newest registration says already: its key is the cell's, and good.
func Repeats(newest, r plan.Registration) bool {
	i := newest.Identity
	return r.Identity.PublicKey != "" && i.PublicKey == r.Identity.PublicKey && !i.Revoked && i.Quarantined == ""
}

package cells

import (
	"errors"
	"time"

	"github.com/sluice-cd/sluice/releases/export"
)

// Bounds of how long the owner may have exports held.
const (
	MinHold     = time.Minute
	DefaultHold = 15 * time.Minute
	MaxHold     = 48 * time.Hour
)

// ExportConsent is the owner's word on what may leave the cell beside its reports. It never leaves the cell itself.
type ExportConsent struct {
	Off     bool          // nothing leaves, and what waits is removed
	Hold    time.Duration // how long a file waits, so that the owner can read it; zero: DefaultHold
	Allowed export.List
}

// HeldFor returns how long a file waits before it may leave, under a nil consent too.
func (c *ExportConsent) HeldFor() time.Duration {
	if c == nil || c.Hold == 0 {
		return DefaultHold
	}
	return c.Hold
}

// Effective returns what may leave of a wish; a nil consent lets nothing leave.
func (c *ExportConsent) Effective(wish export.List) export.List {
	if c == nil || c.Off {
		return export.List{}
	}
	return export.Intersect(wish, c.Allowed)
}

// Validate checks the bounds.
func (c *ExportConsent) Validate() error {
	if c.Hold < 0 || c.Hold > MaxHold {
		return errors.New("hold is at most " + MaxHold.String())
	}
	return nil
}

// ExportHeader is the first line of what a cell exports at once. The hash of a batch is the SHA-256 of its header,
// which names the batch before: so the batches of a cell are a chain.
type ExportHeader struct {
	Cell     string     `json:"cell"`
	Sequence int64      `json:"sequence"`           // of the batch, from 1
	Previous string     `json:"previous,omitempty"` // hash of the batch before; empty: it is the first
	At       time.Time  `json:"at"`                 // end of the minute that the batch is of
	Content  string     `json:"content"`            // SHA-256 of all lines but this one
	Gap      *ExportGap `json:"gap,omitempty"`      // between the batch before and this one; nil: none
}

// ExportGap says that something is missing, and why.
type ExportGap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Why  string    `json:"why"`
}

// ExportReceipt says which batch of a cell the control plane has as the last.
type ExportReceipt struct {
	Sequence int64  `json:"sequence"`
	Hash     string `json:"hash,omitempty"`
}

// ExportState says in one word whether a cell exports.
type ExportState string

const (
	ExportsFlow  ExportState = "flowing" // something came within two hours
	ExportsQuiet ExportState = "quiet"   // nothing: the owner said off, nothing is measured, or the cell is away
)

// ExportStanding says where the exports of a cell stand, as the control plane sees it: what the owner decided stays in
// the cell.
type ExportStanding struct {
	State       ExportState `json:"state" enum:"flowing,quiet"`
	Since       time.Time   `json:"since" doc:"since when it is so"`
	Received    time.Time   `json:"received" doc:"when the last batch came"`
	HeldSeconds float64     `json:"heldSeconds,omitempty" doc:"how old the last batch was when it came: about as long as the owner has exports held"`
	Gap         *ExportGap  `json:"gap,omitempty" doc:"the newest gap, by the cell's clock"`
}

// MaxExport bounds a batch, in bytes: compressed, and as it is.
const (
	MaxExport       = 4 << 20
	MaxExportedText = 17 << 20
)

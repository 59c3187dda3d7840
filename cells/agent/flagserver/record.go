package flagserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
)

// maxRecord bounds flags.json, in bytes. It holds a part of a desired state, which is smaller.
const maxRecord = 4 << 20

// flagsRecord is the content of flags.json: the flags received from the control plane. It is replaced as a whole, and
// durable before it is reported. The values behind its pointers are immutable.
type flagsRecord struct {
	Order        string            `json:"order,omitempty"` // another one: heights start anew
	Height       int64             `json:"height"`
	Bundle       cells.FlagBundle  `json:"bundle"`         // the wanted one
	LastGood     releases.Digest   `json:"good,omitempty"` // the last one that was in force
	Orders       flags.Orders      `json:"orders"`
	OrdersDigest releases.Digest   `json:"told,omitempty"` // of the orders received last, all of which Orders contains
	Labels       map[string]string `json:"labels,omitempty"`
	// SeenOn holds the announcements of the bundle that were once on here. One of them that waits again is suspended.
	SeenOn []string `json:"lit,omitempty"`
	// Held holds the features that the cell's owner holds, by the last valid owner.yaml.
	Held []string `json:"held,omitempty"`
}

// errBehind says that flags of a lower height were received.
var errBehind = errors.New("a replica is behind, or the flags repository lost commits")

// merge returns the record after f was received. A lower height is refused (R39). Orders of the same height are joined:
// two replicas may know of different kills, and only a commit lifts a kill (R43).
func (b flagsRecord) merge(f *cells.Flags) (flagsRecord, error) {
	if f.Height < b.Height {
		return b, fmt.Errorf("flags of height %d are refused after those of height %d: %w", f.Height, b.Height,
			errBehind)
	}
	if f.Height-b.Height > cells.MaxLead {
		return b, fmt.Errorf("flags of height %d are refused after those of height %d: they are more than %d ahead; "+
			"the vendor looks at the control plane, and a new token starts the order anew", f.Height, b.Height,
			int64(cells.MaxLead))
	}
	var orders flags.Orders
	if len(f.Orders.Payload) > 0 {
		if got := releases.DigestBytes(f.Orders.Payload); got != f.Orders.Digest {
			return b, fmt.Errorf("orders of height %d have digest %s, not %s", f.Height, got, f.Orders.Digest)
		}
		if err := json.Unmarshal(f.Orders.Payload, &orders); err != nil {
			return b, fmt.Errorf("orders of height %d: %w", f.Height, err)
		}
	}
	if _, err := releases.ParseDigest(string(f.Bundle.Digest)); err != nil {
		return b, fmt.Errorf("flags of height %d: %w", f.Height, err)
	}
	joined := orders
	if f.Height == b.Height {
		joined = joinOrders(b.Orders, orders)
	}
	if f.Height > b.Height || !sameOrders(joined, b.Orders) || sameOrders(joined, orders) {
		b.OrdersDigest = f.Orders.Digest
	} // else the orders received are a part of those known
	b.Height, b.Bundle, b.Labels, b.Orders = f.Height, f.Bundle, maps.Clone(f.Labels), joined
	b.Bundle.Metadata, b.Bundle.Content = nil, nil
	return b, nil
}

func joinOrders(a, b flags.Orders) flags.Orders {
	killed := map[string]flags.KilledFlag{}
	for _, k := range slices.Concat(a.Killed, b.Killed) { // of two reasons, the later wins
		killed[k.Flag] = k
	}
	var o flags.Orders
	for _, key := range slices.Sorted(maps.Keys(killed)) {
		o.Killed = append(o.Killed, killed[key])
	}
	o.Held = slices.Concat(a.Held, b.Held)
	slices.Sort(o.Held)
	o.Held = slices.Compact(o.Held)
	return o
}

// sameOrders reports whether a and b turn off the same, whatever the reasons.
func sameOrders(a, b flags.Orders) bool {
	same := func(x, y flags.KilledFlag) bool { return x.Flag == y.Flag }
	a, b = joinOrders(a, flags.Orders{}), joinOrders(b, flags.Orders{})
	return slices.EqualFunc(a.Killed, b.Killed, same) && slices.Equal(a.Held, b.Held)
}

func flagsFile(dir string) string { return filepath.Join(dir, "flags.json") }

// loadRecord reads the received flags; a fresh folder has none.
func loadRecord(dir string) (b flagsRecord, err error) {
	text, err := disk.ReadChecksummed(flagsFile(dir), maxRecord)
	if err == nil && text != nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil {
		return flagsRecord{}, fmt.Errorf("read the saved flags: %w", err)
	}
	return b, nil
}

func (b *flagsRecord) save(dir string) error {
	text, err := json.Marshal(b)
	if err == nil {
		err = disk.WriteChecksummed(flagsFile(dir), text)
	}
	if err != nil {
		return fmt.Errorf("save the flags: %w", err)
	}
	return nil
}

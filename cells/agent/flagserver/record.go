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

// maxRecord bounds flags.json, in bytes. What is desired has at most maxDesired, of which it holds a part.
const maxRecord = 4 << 20

// flagsRecord is flags.json: what the cell was told of flags, replaced as a whole. It is durable before it is reported. What
// is behind its pointers is never changed in place.
type flagsRecord struct {
	Height       int64             `json:"height"`
	Bundle       cells.FlagBundle  `json:"bundle"`         // that should be in force
	LastGood     releases.Digest   `json:"good,omitempty"` // the last one that was in force
	Orders       flags.Orders      `json:"orders"`
	OrdersDigest releases.Digest   `json:"told,omitempty"` // of orders as they were told, all of which Orders has
	Labels       map[string]string `json:"labels,omitempty"`
	// SeenOn is the announcements of the bundle that were once on here: one of them that waits is suspended.
	SeenOn []string `json:"lit,omitempty"`
	// Held is what the cell's owner holds, as far as owner.yaml could be read last.
	Held []string `json:"held,omitempty"`
}

// errBehind: somebody says less than was said before.
var errBehind = errors.New("a replica is behind, or the flags repository lost commits")

// merge is what holds after f was told. A lower height is refused (R39). Orders of the same height are joined: two
// replicas may know of different kills, and one that was given is lifted by a commit alone (R43).
func (b flagsRecord) merge(f *cells.Flags) (flagsRecord, error) {
	if f.Height < b.Height {
		return b, fmt.Errorf("flags of height %d are refused after those of height %d: %w", f.Height, b.Height, errBehind)
	}
	var told flags.Orders
	if len(f.Orders.Payload) > 0 {
		if got := releases.DigestBytes(f.Orders.Payload); got != f.Orders.Digest {
			return b, fmt.Errorf("orders of height %d have digest %s, not %s", f.Height, got, f.Orders.Digest)
		}
		if err := json.Unmarshal(f.Orders.Payload, &told); err != nil {
			return b, fmt.Errorf("orders of height %d: %w", f.Height, err)
		}
	}
	if _, err := releases.ParseDigest(string(f.Bundle.Digest)); err != nil {
		return b, fmt.Errorf("flags of height %d: %w", f.Height, err)
	}
	joined := told
	if f.Height == b.Height {
		joined = joinOrders(b.Orders, told)
	}
	if f.Height > b.Height || !sameOrders(joined, b.Orders) || sameOrders(joined, told) {
		b.OrdersDigest = f.Orders.Digest
	} // else all that was told was known, and more
	b.Height, b.Bundle, b.Labels, b.Orders = f.Height, f.Bundle, maps.Clone(f.Labels), joined
	b.Bundle.Metadata = nil
	return b, nil
}

// joinOrders is what either orders.
func joinOrders(a, b flags.Orders) flags.Orders {
	killed := map[string]flags.KilledFlag{}
	for _, k := range slices.Concat(a.Killed, b.Killed) { // of two reasons the later
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

// sameOrders reports whether the same is off by both, whatever the reasons.
func sameOrders(a, b flags.Orders) bool {
	same := func(x, y flags.KilledFlag) bool { return x.Flag == y.Flag }
	a, b = joinOrders(a, flags.Orders{}), joinOrders(b, flags.Orders{})
	return slices.EqualFunc(a.Killed, b.Killed, same) && slices.Equal(a.Held, b.Held)
}

func flagsFile(dir string) string { return filepath.Join(dir, "flags.json") }

// loadRecord reads what was told; a fresh folder was told nothing.
func loadRecord(dir string) (b flagsRecord, err error) {
	text, err := disk.ReadChecksummed(flagsFile(dir), maxRecord)
	if err == nil && text != nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil {
		return flagsRecord{}, fmt.Errorf("read what was told of flags: %w", err)
	}
	return b, nil
}

func (b *flagsRecord) save(dir string) error {
	text, err := json.Marshal(b)
	if err == nil {
		err = disk.WriteChecksummed(flagsFile(dir), text)
	}
	if err != nil {
		return fmt.Errorf("write what was told of flags: %w", err)
	}
	return nil
}

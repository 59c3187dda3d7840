package announcer

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/releases"
)

// bundleRetention is how long a bundle can be requested after the last plan that uses it, for a cell may be about to
// request it.
const bundleRetention = 10 * time.Minute

// bundleCache encodes what cells get. It encodes a bundle only once.
type bundleCache struct {
	bundles     []*encodedBundle
	encodeCount uint64 // number of bundles encoded since the start
}

type encodedBundle struct {
	bundle   *flags.Bundle
	digest   releases.Digest
	bytes    []byte
	lastUsed time.Time
}

// flagsForCells returns what each cell gets at a height, and the bundles that can be requested. before is what cells
// got last: a cell whose bundle is unknown keeps the one in before.
func (p *bundleCache) flagsForCells(made announce.Plan, height int64, now time.Time,
	before map[string]*cells.Flags) (map[string]*cells.Flags, map[releases.Digest][]byte) {
	byCell := make(map[string]*cells.Flags, len(made.CellFlags))
	shared := map[*announce.CellFlags]*cells.Flags{}
	found := map[*flags.Bundle]*encodedBundle{}
	for name, t := range made.CellFlags {
		if t.Bundle == nil {
			if last := before[name]; last != nil {
				byCell[name] = &cells.Flags{Height: height, Bundle: last.Bundle, Orders: sealOrders(t.Orders)}
			}
			continue
		}
		f := shared[t]
		if f == nil {
			b := found[t.Bundle]
			if b == nil {
				b = p.encode(t.Bundle)
				found[t.Bundle] = b
			}
			f = &cells.Flags{Height: height, Bundle: cells.FlagBundle{Digest: b.digest, Size: int64(len(b.bytes)),
				Metadata: []any{}}, Orders: sealOrders(t.Orders)}
			shared[t] = f
		}
		byCell[name] = f
	}
	for _, b := range found {
		b.lastUsed = now
	}
	p.bundles = slices.DeleteFunc(p.bundles, func(b *encodedBundle) bool {
		return now.Sub(b.lastUsed) > bundleRetention
	})
	bundles := make(map[releases.Digest][]byte, len(p.bundles))
	for _, b := range p.bundles {
		bundles[b.digest] = b.bytes
	}
	return byCell, bundles
}

// encode returns the encoded bundle, from the cache if possible.
func (p *bundleCache) encode(bundle *flags.Bundle) *encodedBundle {
	for _, b := range p.bundles {
		if sameBundle(b.bundle, bundle) {
			return b
		}
	}
	p.encodeCount++
	b := &encodedBundle{bundle: bundle, bytes: bundle.Encode()}
	b.digest = releases.DigestBytes(b.bytes)
	p.bundles = append(p.bundles, b)
	return b
}

func sameBundle(a, b *flags.Bundle) bool {
	return a == b || a.Version == b.Version && a.Channel == b.Channel && reflect.DeepEqual(a.Gates, b.Gates) &&
		slices.Equal(a.Hidden, b.Hidden) &&
		maps.EqualFunc(a.Flags, b.Flags, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) })
}

// sealOrders encodes a cell's orders with their digest, and leaves room for signatures (R32).
func sealOrders(o flags.Orders) cells.Sealed {
	payload, err := json.Marshal(o)
	if err != nil {
		return cells.Sealed{}
	}
	return cells.Sealed{Payload: payload, Digest: releases.DigestBytes(payload), Metadata: []any{}}
}

// flagsWithoutRepository returns what cells get while the flags repository can't be read: what they have, and kills. A
// cell joins orders of its own height with those that it knows.
func flagsWithoutRepository(d *plan.Desired, states map[string]*plan.CellState,
	kills []repository.Override) map[string]*cells.Flags {
	if len(kills) == 0 {
		return nil
	}
	byCell := map[string]*cells.Flags{}
	for name, c := range d.Cells {
		s := states[name]
		if s == nil || s.Flags == nil || s.Flags.Bundle == "" {
			continue
		}
		var orders flags.Orders
		for _, k := range kills {
			if k.Cells.Selects(name, c.Channel, c.Labels) {
				orders.Killed = append(orders.Killed, flags.KilledFlag{Flag: k.Flag, Reason: k.Reason})
			}
		}
		byCell[name] = &cells.Flags{Height: s.Flags.Height,
			Bundle: cells.FlagBundle{Digest: s.Flags.Bundle, Metadata: []any{}}, Orders: sealOrders(orders)}
	}
	return byCell
}

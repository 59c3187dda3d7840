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

// lingers is how long a bundle may be asked for that nobody is told of any more: whoever was told of it last may be about to.
const lingers = 10 * time.Minute

// press makes of what cells are told what travels. A bundle that was encoded before is not encoded again.
type press struct {
	bundles []*printed
	encoded uint64 // how many bundles were encoded, ever
}

// printed is a bundle as it travels.
type printed struct {
	bundle *flags.Bundle
	digest releases.Digest
	bytes  []byte
	used   time.Time
}

// tell gives what each cell is told at a height, and the bundles that may be asked for. before is what cells were told last: of
// a bundle that is not known the cell keeps what it has.
func (p *press) tell(made announce.Plan, height int64, now time.Time, before map[string]*cells.Flags) (map[string]*cells.Flags, map[releases.Digest][]byte) {
	told := make(map[string]*cells.Flags, len(made.Told))
	shared := map[*announce.Told]*cells.Flags{}
	found := map[*flags.Bundle]*printed{}
	for name, t := range made.Told {
		if t.Bundle == nil {
			if last := before[name]; last != nil {
				told[name] = &cells.Flags{Height: height, Bundle: last.Bundle, Orders: sealed(t.Orders)}
			}
			continue
		}
		f := shared[t]
		if f == nil {
			b := found[t.Bundle]
			if b == nil {
				b = p.print(t.Bundle)
				found[t.Bundle] = b
			}
			f = &cells.Flags{Height: height, Bundle: cells.FlagBundle{Digest: b.digest, Size: int64(len(b.bytes)), Metadata: []any{}}, Orders: sealed(t.Orders)}
			shared[t] = f
		}
		told[name] = f
	}
	for _, b := range found {
		b.used = now
	}
	p.bundles = slices.DeleteFunc(p.bundles, func(b *printed) bool { return now.Sub(b.used) > lingers })
	bundles := make(map[releases.Digest][]byte, len(p.bundles))
	for _, b := range p.bundles {
		bundles[b.digest] = b.bytes
	}
	return told, bundles
}

// print gives a bundle as it travels.
func (p *press) print(bundle *flags.Bundle) *printed {
	for _, b := range p.bundles {
		if sameBundle(b.bundle, bundle) {
			return b
		}
	}
	p.encoded++
	b := &printed{bundle: bundle, bytes: bundle.Encode()}
	b.digest = releases.DigestBytes(b.bytes)
	p.bundles = append(p.bundles, b)
	return b
}

func sameBundle(a, b *flags.Bundle) bool {
	return a == b || a.Version == b.Version && a.Channel == b.Channel && reflect.DeepEqual(a.Gates, b.Gates) && slices.Equal(a.Hidden, b.Hidden) &&
		maps.EqualFunc(a.Flags, b.Flags, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) })
}

// sealed makes what a cell gets of its orders: bytes and their digest, with room for signatures (R32).
func sealed(o flags.Orders) cells.Sealed {
	payload, err := json.Marshal(o)
	if err != nil {
		return cells.Sealed{}
	}
	return cells.Sealed{Payload: payload, Digest: releases.DigestBytes(payload), Metadata: []any{}}
}

// blind gives what cells are told while nothing of the flags repository can be read: what they have, and what is killed. Orders
// of the height that a cell has are joined with those that it knows.
func blind(d *plan.Desired, states map[string]*plan.CellState, kills []repository.Override) map[string]*cells.Flags {
	if len(kills) == 0 {
		return nil
	}
	told := map[string]*cells.Flags{}
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
		told[name] = &cells.Flags{Height: s.Flags.Height, Bundle: cells.FlagBundle{Digest: s.Flags.Bundle, Metadata: []any{}}, Orders: sealed(orders)}
	}
	return told
}

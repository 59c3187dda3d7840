package flags

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// Compiled is a bundle whose rules are ready to be evaluated. Immutable.
type Compiled struct {
	digest   [sha256.Size]byte // of the bundle's flags
	gates    []Gate
	holds    [][]int32        // by gate: the features it opens
	features map[string]int32 // by name: places in Folded.open; first are those that flags name
	named    int              // how many these are
	gated    []bool           // by feature: whether a gate opens it
	hidden   []bool           // by feature: Bundle.Hidden
	flags    map[string]*flag
	sorted   []*flag // by key
}

// flag is a definition with what never changes about it.
type flag struct {
	def     *Definition
	rule    *compiled
	feature int32  // ungated: none
	shut    Result // what it is while its gate is shut (R37)
}

const ungated = -1

// part is how many flags are compiled in one go.
const part = 1_000

// Compile reads a bundle's flags and compiles their rules. One that can't be read refuses them all: the cell keeps what it has.
func Compile(b *Bundle) (*Compiled, error) { return b.compile(true) }

// compile is Compile. Without gates all is taken to be settled: flags that name a feature are like others.
func (b *Bundle) compile(gates bool) (*Compiled, error) {
	if len(b.Flags) > MaxFlags || len(b.Gates) > MaxGates {
		return nil, fmt.Errorf("compile flags: %d flags and %d gates, beyond %d and %d", len(b.Flags), len(b.Gates), MaxFlags, MaxGates)
	}
	c := &Compiled{
		digest:   digestOf(b.Flags),
		gates:    b.Gates,
		holds:    make([][]int32, len(b.Gates)),
		features: map[string]int32{},
		flags:    make(map[string]*flag, len(b.Flags)),
	}
	if err := c.compile(b.Flags, gates); err != nil {
		return nil, err
	}
	for i, g := range b.Gates {
		for _, name := range g.Features {
			c.holds[i] = append(c.holds[i], c.feature(name))
		}
	}
	c.gated = make([]bool, len(c.features))
	for _, features := range c.holds {
		for _, f := range features {
			c.gated[f] = true
		}
	}
	c.hidden = c.marks(b.Hidden)
	return c, nil
}

// digestOf is over all that flags say.
func digestOf(flags map[string]json.RawMessage) [sha256.Size]byte {
	sum, enc := sha256.New(), []byte(nil)
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		enc = binary.AppendUvarint(enc[:0], uint64(len(key)))
		enc = append(enc, key...)
		enc = binary.AppendUvarint(enc, uint64(len(flags[key])))
		sum.Write(enc)
		sum.Write(flags[key])
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// compile reads flags, on all processors.
func (c *Compiled) compile(raw map[string]json.RawMessage, gates bool) error {
	keys := slices.Sorted(maps.Keys(raw))
	c.sorted = make([]*flag, len(keys))
	faults := make([]error, (len(keys)+part-1)/part)
	var group sync.WaitGroup
	for p := range faults {
		group.Go(func() {
			for i := p * part; i < min((p+1)*part, len(keys)) && faults[p] == nil; i++ {
				c.sorted[i], faults[p] = compileOne(keys[i], raw[keys[i]], gates)
			}
		})
	}
	group.Wait()
	for _, fault := range faults { // the first by key, whoever was quickest
		if fault != nil {
			return fmt.Errorf("compile flags: %w", fault)
		}
	}
	for _, f := range c.sorted {
		c.flags[f.def.Key] = f
		if f.feature != ungated {
			f.feature = c.feature(f.def.Feature())
		}
	}
	c.named = len(c.features)
	return nil
}

// compileOne reads a flag. If it is gated, the place of its feature is still to be found.
func compileOne(key string, raw []byte, gates bool) (*flag, error) {
	b := asWritten()
	if !gates {
		b = asSettled()
	}
	d, err := parseDefinition(key, raw, b)
	if err != nil {
		return nil, err
	}
	rule, err := compileFlag(d)
	if err != nil {
		return nil, err
	}
	f := &flag{def: d, rule: rule, feature: ungated}
	feature, names := d.Metadata["feature"]
	if !gates || !names {
		return f, nil
	}
	value := d.Variants[d.Off()]
	switch {
	case d.Feature() == "":
		return nil, fmt.Errorf("flag %q: %s can't be a feature's name: it would not be gated (R37)", key, jsondoc.Describe(feature))
	case value == nil || !Choosable(d.Off()):
		return nil, fmt.Errorf("flag %q: it names a feature, and metadata.off names none of its variants that a rule can choose (R37)", key)
	}
	f.feature = 0
	f.shut = Result{Value: value, Variant: d.Off(), Reason: ReasonStatic, Metadata: d.Metadata}
	return f, nil
}

// feature gives the place of a feature in Folded.open.
func (c *Compiled) feature(name string) int32 {
	place, known := c.features[name]
	if !known {
		place = int32(len(c.features))
		c.features[name] = place
	}
	return place
}

// marks tells, by place, which features are named.
func (c *Compiled) marks(names []string) []bool {
	marked := make([]bool, len(c.features))
	for _, name := range names {
		if place, known := c.features[name]; known {
			marked[place] = true
		}
	}
	return marked
}

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

// Compiled is a bundle with compiled rules. Immutable.
type Compiled struct {
	digest       [sha256.Size]byte // of the bundle's flags
	gates        []Gate
	gateFeatures [][]int32 // by gate: indexes of its features
	// featureIndexes are, by name, indexes into Folded.openings; the features that flags name come first.
	featureIndexes map[string]int32
	flagFeatures   int    // how many features flags name
	gated          []bool // by feature: some gate opens the feature
	hidden         []bool // by feature: Bundle.Hidden
	flags          map[string]*flag
	sorted         []*flag // by key
	timed          []*flag // whose rules read the time, by key
}

// flag is a compiled definition.
type flag struct {
	def          *Definition
	evaluator    *evaluator
	featureIndex int32  // ungated: no feature
	offResult    Result // the result while the gate is shut (R37)
}

const ungated = -1

const flagsPerTask = 1_000

// Compile reads a bundle's flags and compiles their rules. One unreadable flag makes Compile refuse the whole bundle,
// so that the cell keeps the bundle it has.
func Compile(b *Bundle) (*Compiled, error) { return b.compile(true) }

// compile is Compile. Without gates, flags that name a feature are compiled like any other flag.
func (b *Bundle) compile(gates bool) (*Compiled, error) {
	if len(b.Flags) > MaxFlags || len(b.Gates) > MaxGates {
		return nil, fmt.Errorf("compile flags: %d flags and %d gates are more than %d and %d",
			len(b.Flags), len(b.Gates), MaxFlags, MaxGates)
	}
	c := &Compiled{
		digest:         digestFlags(b.Flags),
		gates:          b.Gates,
		gateFeatures:   make([][]int32, len(b.Gates)),
		featureIndexes: map[string]int32{},
		flags:          make(map[string]*flag, len(b.Flags)),
	}
	if err := c.compileFlags(b.Flags, gates); err != nil {
		return nil, err
	}
	for i, g := range b.Gates {
		for _, name := range g.Features {
			c.gateFeatures[i] = append(c.gateFeatures[i], c.indexFeature(name))
		}
	}
	c.gated = make([]bool, len(c.featureIndexes))
	for _, features := range c.gateFeatures {
		for _, f := range features {
			c.gated[f] = true
		}
	}
	c.hidden = c.markFeatures(b.Hidden)
	return c, nil
}

func digestFlags(flags map[string]json.RawMessage) [sha256.Size]byte {
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

// compileFlags reads flags, on all processors.
func (c *Compiled) compileFlags(raw map[string]json.RawMessage, gates bool) error {
	keys := slices.Sorted(maps.Keys(raw))
	c.sorted = make([]*flag, len(keys))
	faults := make([]error, (len(keys)+flagsPerTask-1)/flagsPerTask)
	var group sync.WaitGroup
	for p := range faults {
		group.Go(func() {
			for i := p * flagsPerTask; i < min((p+1)*flagsPerTask, len(keys)) && faults[p] == nil; i++ {
				c.sorted[i], faults[p] = parseFlag(keys[i], raw[keys[i]], gates)
			}
		})
	}
	group.Wait()
	for _, fault := range faults { // the first fault by key, for a stable message
		if fault != nil {
			return fmt.Errorf("compile flags: %w", fault)
		}
	}
	for _, f := range c.sorted {
		c.flags[f.def.Key] = f
		if instants, computed := f.evaluator.clockUse(); computed || len(instants) > 0 {
			c.timed = append(c.timed, f)
		}
		if f.featureIndex != ungated {
			f.featureIndex = c.indexFeature(f.def.Feature())
		}
	}
	c.flagFeatures = len(c.featureIndexes)
	return nil
}

// parseFlag reads and compiles a flag. The caller sets the featureIndex of a gated flag.
func parseFlag(key string, raw []byte, gates bool) (*flag, error) {
	b := sourceBounds()
	if !gates {
		b = documentBounds()
	}
	d, err := parseDefinition(key, raw, b)
	if err != nil {
		return nil, err
	}
	rule, err := newEvaluator(d)
	if err != nil {
		return nil, err
	}
	f := &flag{def: d, evaluator: rule, featureIndex: ungated}
	feature, names := d.Metadata["feature"]
	if !gates || !names {
		return f, nil
	}
	value := d.Variants[d.Off()]
	switch {
	case d.Feature() == "":
		return nil, fmt.Errorf("flag %q: %s can't be a feature's name: it would not be gated (R37)", key,
			jsondoc.Describe(feature))
	case value == nil || !Choosable(d.Off()):
		return nil, fmt.Errorf(
			"flag %q names a feature, but metadata.off names no variant that a rule can choose (R37)",
			key)
	}
	f.featureIndex = 0
	f.offResult = Result{Value: value, Variant: d.Off(), Reason: ReasonStatic, Metadata: d.Metadata}
	return f, nil
}

// indexFeature returns the index of a feature in Folded.openings, and adds unknown features.
func (c *Compiled) indexFeature(name string) int32 {
	place, known := c.featureIndexes[name]
	if !known {
		place = int32(len(c.featureIndexes))
		c.featureIndexes[name] = place
	}
	return place
}

// markFeatures returns, by feature index, whether names contains the feature.
func (c *Compiled) markFeatures(names []string) []bool {
	marked := make([]bool, len(c.featureIndexes))
	for _, name := range names {
		if place, known := c.featureIndexes[name]; known {
			marked[place] = true
		}
	}
	return marked
}

// Package export says what may leave a cell beside its reports: metrics and events of the product, as a list. A release
// has a list of what its vendor wishes for, in export.yaml; the cell's owner keeps a list of what was agreed to. Only
// what is in both leaves the cell.
//
// The package is pure. A list names every metric, every label and every value that may leave, so that two lists can be
// compared and a person can read what was agreed to. Everything may be called at once.
package export

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// File is the file of a release that has the vendor's wish.
const File = "export.yaml"

// Bounds of a list. All of it is kept in the cell's owner.yaml.
const (
	MaxFile    = 128 << 10 // bytes
	MaxMetrics = 200
	MaxEvents  = 100
	MaxUses    = 16 // labels of a metric, or fields of an event
	MaxValues  = 64 // values of a label
	maxValue   = 64 // bytes
)

// Bounds of how often one series leaves a cell.
const (
	MinEvery = time.Minute
	MaxEvery = time.Hour
)

// Type is the type of a metric.
type Type string

const (
	Gauge     Type = "gauge"
	Counter   Type = "counter"
	Histogram Type = "histogram"
)

// List says what may leave a cell. What it does not name stays.
type List struct {
	Metrics []Metric `yaml:"metrics,omitempty" json:"metrics,omitempty"`
	Events  []Event  `yaml:"events,omitempty" json:"events,omitempty"`
}

// Metric is one metric that may leave.
type Metric struct {
	Name   string         `yaml:"name" json:"name" required:"true" doc:"as the product reports it, such as http_server_requests"`
	Type   Type           `yaml:"type" json:"type" required:"true" enum:"gauge,counter,histogram" doc:"what has another type stays"`
	Labels map[string]Use `yaml:"labels,omitempty" json:"labels,omitempty" doc:"labels that may leave, by name; all others are dropped, and their series added up"`
	Every  time.Duration  `yaml:"every,omitempty" json:"every,omitempty" doc:"least time between two points of a series, from 1m (the default) to 1h"`
}

// Event is one kind of event that may leave. Its body never does.
type Event struct {
	Kind   string         `yaml:"kind" json:"kind" required:"true" doc:"the name of the event"`
	Fields map[string]Use `yaml:"fields,omitempty" json:"fields,omitempty" doc:"attributes that may leave, by name"`
}

// Treatment says what becomes of a label's or a field's value.
type Treatment string

const (
	Enum    Treatment = "enum"    // one of the values; any other becomes "other"
	Hash    Treatment = "hash"    // an HMAC by a key that never leaves the cell
	Drop    Treatment = "drop"    // it stays
	Number  Treatment = "number"  // of a field
	Version Treatment = "version" // of a field: a version as SemVer has it
	Text    Treatment = "text"    // of a field: at most 80 letters, digits, spaces and ._:/+-
)

// Use says how a label or a field may leave.
type Use struct {
	As     Treatment `yaml:"as" json:"as" required:"true" enum:"enum,hash,drop,number,version,text" doc:"enum: only the values below, any other becomes other; hash: an HMAC by a key that stays in the cell; drop: it stays; number, version and text (at most 80 plain characters): for fields of events only"`
	Values []string  `yaml:"values,omitempty" json:"values,omitempty" doc:"of an enum"`
}

// Wish is export.yaml.
type Wish struct {
	APIVersion string   `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string   `yaml:"kind" json:"kind" required:"true" enum:"Export"`
	Metrics    []Metric `yaml:"metrics" json:"metrics,omitempty"`
	Events     []Event  `yaml:"events" json:"events,omitempty"`
}

var (
	metricName = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.:/-]{0,126}$`)
	})
	useName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,62}$`) })
)

// OwnPrefix begins the names of Sluice's own metrics, which no wish may name. How much was kept back, and why, is
// always exported under such a name.
const OwnPrefix = "sluice_export_"

// AgentPrefix begins the names of what the agent measures of itself, which leaves as any other metric does: programs
// can measure none of that name.
const AgentPrefix = "sluice_agent_"

// What the agent measures.
const (
	AgentHealthy = AgentPrefix + "healthy"      // a gauge: 1 while what runs is healthy, else 0
	AgentEvents  = AgentPrefix + "events"       // a counter of the cell's events, by kind
	AgentMemory  = AgentPrefix + "memory_bytes" // a gauge: what the agent's heap and stacks have of the machine
)

// agentMetrics returns the types of what the agent measures.
func agentMetrics() map[string]Type {
	return map[string]Type{AgentHealthy: Gauge, AgentEvents: Counter, AgentMemory: Gauge}
}

// ValidName reports whether a metric or an event may have the name.
func ValidName(name string) bool { return metricName().MatchString(name) }

// Parse reads a wish.
func Parse(file string, text []byte) (*List, []manifest.Fault) {
	if len(text) > MaxFile {
		return nil, []manifest.Fault{{File: file, Code: manifest.TooLarge,
			Message: fmt.Sprintf("is larger than %d bytes", MaxFile)}}
	}
	doc, faults := manifest.Decode[Wish](file, text)
	list := List{Metrics: doc.Value.Metrics, Events: doc.Value.Events}
	for _, wrong := range list.Check() {
		faults = append(faults, doc.Fault(manifest.WrongValue, wrong.At, "%s", wrong.Reason))
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return &list, nil
}

// ListFault says what is wrong with a list. At is the path of the field.
type ListFault struct{ At, Reason string }

// Check returns what is wrong with a list.
func (l *List) Check() []ListFault {
	c := checker{}
	if len(l.Metrics) > MaxMetrics {
		c.refuse("metrics", "has more than %d metrics", MaxMetrics)
	}
	if len(l.Events) > MaxEvents {
		c.refuse("events", "has more than %d events", MaxEvents)
	}
	if len(c.faults) > 0 {
		return c.faults
	}
	names := map[string]bool{}
	for i, m := range l.Metrics {
		at := fmt.Sprintf("metrics[%d]", i)
		c.checkName(at+".name", "a metric's name", m.Name, names)
		if strings.HasPrefix(m.Name, OwnPrefix) {
			c.refuse(at+".name", "%s: names that begin with %s are Sluice's own", m.Name, OwnPrefix)
		}
		if strings.HasPrefix(m.Name, AgentPrefix) && agentMetrics()[m.Name] != m.Type {
			c.refuse(at+".name", "%s: the agent measures no %s of that name: docs/export.md lists what it does", m.Name,
				m.Type)
		}
		if m.Every != 0 && (m.Every < MinEvery || m.Every > MaxEvery || m.Every%time.Minute != 0) {
			c.refuse(at+".every", "%s: from %s to %s is possible, in whole minutes", m.Every, MinEvery, MaxEvery)
		}
		c.checkUses(at+".labels", m.Labels, Enum, Hash, Drop)
	}
	kinds := map[string]bool{}
	for i, e := range l.Events {
		at := fmt.Sprintf("events[%d]", i)
		c.checkName(at+".kind", "an event's kind", e.Kind, kinds)
		c.checkUses(at+".fields", e.Fields, Enum, Hash, Drop, Number, Version, Text)
	}
	return c.faults
}

type checker struct{ faults []ListFault }

func (c *checker) refuse(at, format string, args ...any) {
	c.faults = append(c.faults, ListFault{at, fmt.Sprintf(format, args...)})
}

// checkName checks the name of a metric or an event, which is to be among those before it only now.
func (c *checker) checkName(at, what, name string, before map[string]bool) {
	switch {
	case !ValidName(name):
		c.refuse(at, "%.80q can't be %s: use letters, digits and _.:/-", name, what)
	case before[name]:
		c.refuse(at, "%s is there twice", name)
	}
	before[name] = true
}

func (c *checker) checkUses(at string, uses map[string]Use, allowed ...Treatment) {
	if len(uses) > MaxUses {
		c.refuse(at, "has more than %d entries", MaxUses)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		u, at := uses[name], at+"."+name
		switch {
		case !useName().MatchString(name):
			c.refuse(at, "%.80q can't be a name here: use letters, digits and _.-", name)
		case !slices.Contains(allowed, u.As):
			c.refuse(at+".as", "%s is not for labels, which are enum, hash or drop", u.As)
		case u.As == Enum && len(u.Values) == 0:
			c.refuse(at+".values", "an enum without values lets nothing through: list them, or drop %s", name)
		case u.As != Enum && len(u.Values) > 0:
			c.refuse(at+".values", "only an enum has values")
		case len(u.Values) > MaxValues:
			c.refuse(at+".values", "has more than %d values", MaxValues)
		}
		for i, v := range u.Values[:min(len(u.Values), MaxValues)] {
			switch {
			case v == "" || len(v) > maxValue || strings.ContainsFunc(v,
				func(r rune) bool { return r < ' ' || r > '~' }):
				c.refuse(fmt.Sprintf("%s.values[%d]", at, i), "%.80q: a value has 1 to %d printable characters of ASCII",
					v, maxValue)
			case slices.Contains(u.Values[:i], v):
				c.refuse(fmt.Sprintf("%s.values[%d]", at, i), "%s is there twice", v)
			}
		}
	}
}

// interval returns how often a series of m may leave.
func (m *Metric) interval() time.Duration { return max(m.Every, MinEvery) }

// Intersect returns what both lists let through.
func Intersect(a, b List) List {
	var both List
	for _, m := range a.Metrics {
		i := slices.IndexFunc(b.Metrics, func(o Metric) bool { return o.Name == m.Name && o.Type == m.Type })
		if i < 0 {
			continue
		}
		m.Labels = intersectUses(m.Labels, b.Metrics[i].Labels)
		m.Every = max(m.interval(), b.Metrics[i].interval())
		both.Metrics = append(both.Metrics, m)
	}
	for _, e := range a.Events {
		i := slices.IndexFunc(b.Events, func(o Event) bool { return o.Kind == e.Kind })
		if i < 0 {
			continue
		}
		e.Fields = intersectUses(e.Fields, b.Events[i].Fields)
		both.Events = append(both.Events, e)
	}
	return both
}

// intersectUses returns the labels that both let through in the same way.
func intersectUses(a, b map[string]Use) map[string]Use {
	both := map[string]Use{}
	for name, u := range a {
		o, ok := b[name]
		if !ok || o.As != u.As || u.As == Drop {
			continue
		}
		if u.As == Enum {
			u.Values = slices.DeleteFunc(slices.Clone(u.Values),
				func(v string) bool { return !slices.Contains(o.Values, v) })
			if len(u.Values) == 0 {
				continue
			}
		}
		both[name] = u
	}
	return both
}

// Lines returns the list in sentences, each of which names one thing that may leave, so that the lines of two lists can
// be compared.
func (l *List) Lines() []string {
	var lines []string
	for _, m := range l.Metrics {
		lines = append(lines, fmt.Sprintf("metric %s: a %s, at most one point in %s", m.Name, m.Type, m.interval()))
		lines = append(lines, useLines("metric "+m.Name+", label ", m.Labels)...)
	}
	for _, e := range l.Events {
		lines = append(lines, "event "+e.Kind+": that it happened, and when")
		lines = append(lines, useLines("event "+e.Kind+", field ", e.Fields)...)
	}
	return lines
}

func useLines(prefix string, uses map[string]Use) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		switch u := uses[name]; u.As {
		case Drop:
		case Enum:
			for _, v := range slices.Sorted(slices.Values(u.Values)) {
				lines = append(lines, fmt.Sprintf("%s%s: the value %s", prefix, name, v))
			}
		case Hash:
			lines = append(lines, prefix+name+": a hash, by a key that stays in the cell")
		case Text:
			lines = append(lines, prefix+name+": any text of at most 80 plain characters")
		default:
			lines = append(lines, fmt.Sprintf("%s%s: any %s", prefix, name, u.As))
		}
	}
	return lines
}

// Wider returns the lines of wish that allowed does not let through as they are: what an owner would have to agree to.
func Wider(wish, allowed List) []string {
	through := Intersect(wish, allowed)
	known := map[string]bool{}
	for _, line := range through.Lines() {
		known[line] = true
	}
	return slices.DeleteFunc(wish.Lines(), func(line string) bool { return known[line] })
}

package telemetry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/export"
)

// Other stands for a value that an enum does not list, and for none at all.
const Other = "other"

const (
	maxText     = 80
	hashLength  = 16 // bytes of an HMAC that are kept
	textCharset = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._:/+-"
)

// Rules let through what a list names. The zero value lets nothing through.
type Rules struct {
	metrics map[string]metricRule
	events  map[string][]use
	key     []byte
}

type metricRule struct {
	kind   export.Type
	every  time.Duration
	labels []use // by name
	own    bool  // the agent measures it, and no program
}

type use struct {
	name   string
	as     export.Treatment
	values map[string]bool
}

// Compile makes rules of a list. The key is that of hashes.
func Compile(l export.List, key []byte) *Rules {
	r := &Rules{metrics: map[string]metricRule{}, events: map[string][]use{}, key: key}
	for _, m := range l.Metrics {
		r.metrics[m.Name] = metricRule{m.Type, max(m.Every, export.MinEvery), compileUses(m.Labels),
			strings.HasPrefix(m.Name, export.AgentPrefix)}
	}
	for _, e := range l.Events {
		r.events[e.Kind] = compileUses(e.Fields)
	}
	return r
}

func compileUses(uses map[string]export.Use) (all []use) {
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		u := use{name: name, as: uses[name].As, values: map[string]bool{}}
		if u.as == export.Drop {
			continue
		}
		for _, v := range uses[name].Values {
			u.values[v] = true
		}
		all = append(all, u)
	}
	return all
}

// WantsMetric and WantsEvent report whether the list has the name.
func (r *Rules) WantsMetric(name string) bool { _, ok := r.metrics[name]; return ok }
func (r *Rules) WantsEvent(kind string) bool  { _, ok := r.events[kind]; return ok }

// Label is a label of a metric or an attribute of an event, as it came in.
type Label struct{ Name, Value string }

// find returns the value of the first label of that name; empty: there is none.
func find(labels []Label, name string) string {
	for _, l := range labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// labelValue returns the value of a label as it may leave.
func (r *Rules) labelValue(u *use, value string) string {
	switch {
	case u.as == export.Hash && value != "":
		return r.hash(u.name, value)
	case u.as == export.Enum && u.values[value]:
		return value
	}
	return Other
}

// hash hashes a value, so that it can be compared with others of the same name and cell, and not be guessed.
func (r *Rules) hash(name, value string) string {
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(name + "\x00" + value))
	return hex.EncodeToString(mac.Sum(nil)[:hashLength])
}

// fieldValue returns the value of an event's field as it may leave; nil: it stays.
func (r *Rules) fieldValue(u *use, v any) any {
	text, isText := v.(string)
	switch u.as {
	case export.Number:
		if number, ok := asNumber(v); ok && isFinite(number) {
			return number
		}
	case export.Version:
		if parsed, err := releases.ParseVersion(text); isText && err == nil && len(text) <= maxText {
			return parsed.String()
		}
	case export.Text:
		if isText && len(text) <= maxText && strings.Trim(text, textCharset) == "" {
			return text
		}
	case export.Enum, export.Hash:
		if text := asText(v); text != "" {
			return r.labelValue(u, text)
		}
	}
	return nil
}

func asNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	}
	return 0, false
}

// asText returns a value as Prometheus' text format has it; empty: it is of no such kind.
func asText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

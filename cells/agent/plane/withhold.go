package plane

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// fieldsOfAll are the fields of a report that control planes of every version know. Any other, also one that a later
// version adds, is left out for an older control plane that refuses it.
func fieldsOfAll() []string {
	return []string{"cell", "boot", "sent", "agent", "state", "running", "applying", "acknowledged", "message",
		"failures", "owner", "flags", "confirmed", "events"}
}

// withholdFor is how long a field that was refused is left out. Then it is tried again: the control plane may have been
// upgraded.
const withholdFor = time.Hour

// withheld has the fields of reports that the control plane refused, by name, and until when each is left out.
type withheld map[string]time.Time

func (w withheld) leavesOut(field string, now time.Time) bool { return now.Before(w[field]) }

// without returns a report's JSON without the fields that are left out at now.
func (w withheld) without(body []byte, now time.Time) ([]byte, error) {
	maps.DeleteFunc(w, func(_ string, until time.Time) bool { return !now.Before(until) })
	if len(w) == 0 {
		return body, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, err
	}
	maps.DeleteFunc(fields, func(name string, _ json.RawMessage) bool {
		return name != infrastructureField && w.leavesOut(name, now)
	})
	return json.Marshal(fields)
}

// infrastructureField is reported as a bare number, as agents of older versions do, where more is refused.
const infrastructureField = "infrastructure"

// take takes a refusal of a report that was sent as body, and returns which fields are left out from now on; none: the
// refusal is for something else. The refusal names the field, or one inside it, without what it is inside of. Where it
// names none, as for a value that an older control plane does not know, unnamed says that every field may be at fault.
func (w withheld) take(refusal error, body []byte, unnamed bool, now time.Time) (fields []string) {
	var s *statusError
	if !errors.As(refusal, &s) || s.status != http.StatusBadRequest && s.status != http.StatusUnprocessableEntity {
		return nil
	}
	var sent map[string]json.RawMessage
	if json.Unmarshal(body, &sent) != nil {
		return nil
	}
	refused, _ := strings.CutPrefix(s.location, "body.")
	_, isField := sent[refused]
	inside := !isField || slices.Contains(fieldsOfAll(), refused) // which every control plane knows
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		named := name == refused || inside && hasField(sent[name], refused)
		if (named || unnamed) && !slices.Contains(fieldsOfAll(), name) && !w.leavesOut(name, now) {
			fields = append(fields, name)
			w[name] = now.Add(withholdFor)
		}
	}
	return fields
}

// hasField reports whether a field of this name is anywhere inside a value.
func hasField(value json.RawMessage, name string) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) == nil {
		for inner, v := range fields {
			if inner == name || hasField(v, name) {
				return true
			}
		}
		return false
	}
	var items []json.RawMessage
	return json.Unmarshal(value, &items) == nil &&
		slices.ContainsFunc(items, func(v json.RawMessage) bool { return hasField(v, name) })
}

package rows

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// encodeState returns the same bytes as Encode of a cell's state, without reflection, which was the most expensive part
// of storing reports. Parts that reports rarely have are left to Encode.
func encodeState(s *plan.CellState) (string, error) {
	w := jsonWriter{b: make([]byte, 0, 1536)}
	w.writeString(`{"Name":`, s.Name)
	w.writeString(`,"Channel":`, s.Channel)
	w.writeNumber(`,"Epoch":`, s.Epoch)
	w.writeNumber(`,"Sequence":`, s.Sequence)
	w.writeString(`,"Release":`, s.Release)
	w.writeString(`,"Digest":`, string(s.Digest))
	w.writeString(`,"State":`, string(s.State))
	w.writeString(`,"Message":`, s.Message)
	if s.Unhealthy != nil {
		w.writeOther(`,"Unhealthy":`, s.Unhealthy, false)
	}
	w.writeTime(`,"HealthySince":`, s.HealthySince)
	w.writeNumber(`,"Soaked":`, int64(s.Soaked))
	if len(s.Gaps) > 0 {
		w.writeOther(`,"Gaps":`, s.Gaps, false)
	}
	w.writeTime(`,"LastReport":`, s.LastReport)
	w.writeNumber(`,"Skew":`, int64(s.Skew))
	w.writeNumber(`,"Infrastructure":`, int64(s.Infrastructure))
	if s.Actual != nil {
		w.writeOther(`,"Actual":`, s.Actual, false)
	}
	w.writeAssignment(`,"Running":`, s.Running)
	w.writeAssignment(`,"Applying":`, s.Applying)
	w.writeAssignment(`,"Granted":`, s.Granted)
	w.writeTime(`,"GrantedAt":`, s.GrantedAt)
	w.writeOther(`,"Left":`, s.Left, s.Left == nil)
	w.writeString(`,"Taken":`, s.Taken)
	w.writeTime(`,"StartedAt":`, s.StartedAt)
	w.writeTime(`,"ReachedAt":`, s.ReachedAt)
	w.writeTime(`,"IllSince":`, s.IllSince)
	w.writeOther(`,"Failures":`, s.Failures, s.Failures == nil)
	w.writeOther(`,"Owner":`, s.Owner, s.Owner == nil)
	w.writeFlags(`,"Flags":`, s.Flags)
	if s.Maintenance != nil {
		w.writeOther(`,"Maintenance":`, s.Maintenance, false)
	}
	if len(s.Debug) > 0 {
		w.writeOther(`,"Debug":`, s.Debug, false)
	}
	if s.Signatures != nil {
		w.writeOther(`,"Signatures":`, s.Signatures, false)
	}
	w.writeBoots(`,"Boots":`, s.Boots)
	w.writeNumber(`,"Confirmed":`, s.Confirmed)
	if s.Miscount != nil {
		w.writeOther(`,"Miscount":`, s.Miscount, false)
	}
	w.writeString(`,"Clone":`, s.Clone)
	w.writeNumber(`,"Joined":`, s.Joined)
	w.writeNumber(`,"Version":`, s.Version)
	w.writeRaw(`}`)
	return string(w.b), w.err
}

// jsonWriter writes JSON, up to the first error.
type jsonWriter struct {
	b   []byte
	err error
}

func (w *jsonWriter) writeRaw(text string) { w.b = append(w.b, text...) }

func (w *jsonWriter) writeNumber(before string, n int64) {
	w.writeRaw(before)
	w.b = strconv.AppendInt(w.b, n, 10)
}

// writeString writes a string; encoding/json encodes strings that need an escape.
func (w *jsonWriter) writeString(before, text string) {
	w.writeRaw(before)
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ', c >= 0x7f, c == '"', c == '\\', c == '<', c == '>', c == '&':
			w.writeOther("", text, false)
			return
		}
	}
	w.b = append(w.b, '"')
	w.writeRaw(text)
	w.b = append(w.b, '"')
}

func (w *jsonWriter) writeTime(before string, t time.Time) {
	w.writeRaw(before)
	w.b = append(w.b, '"')
	b, err := t.AppendText(w.b)
	if err != nil {
		w.setError(err)
		return
	}
	w.b = append(b, '"')
}

func (w *jsonWriter) writeOther(before string, v any, null bool) {
	w.writeRaw(before)
	if null {
		w.writeRaw(`null`)
		return
	}
	b, err := json.Marshal(v)
	w.setError(err)
	w.b = append(w.b, b...)
}

func (w *jsonWriter) setError(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *jsonWriter) writeAssignment(before string, a *cells.Assignment) {
	w.writeRaw(before)
	if a == nil {
		w.writeRaw(`null`)
		return
	}
	w.writeString(`{"channel":`, a.Channel)
	w.writeNumber(`,"epoch":`, a.Epoch)
	w.writeNumber(`,"sequence":`, a.Sequence)
	w.writeString(`,"release":`, a.Release)
	w.writeString(`,"digest":`, string(a.Digest))
	if a.Profile != "" {
		w.writeString(`,"profile":`, a.Profile)
	}
	if len(a.Values) > 0 {
		w.writeRaw(`,"values":`)
		w.writeValues(a.Values)
	}
	if a.Revision != "" {
		w.writeString(`,"revision":`, a.Revision)
	}
	if a.ForwardOnly {
		w.writeRaw(`,"forwardOnly":true`)
	}
	if a.Retry != "" {
		w.writeString(`,"retry":`, a.Retry)
	}
	w.writeRaw(`}`)
}

// writeValues writes a cell's values, most of which are strings.
func (w *jsonWriter) writeValues(all map[string]any) {
	comma := `{`
	for _, key := range slices.Sorted(maps.Keys(all)) {
		w.writeString(comma, key)
		comma = `,`
		w.writeRaw(`:`)
		switch v := all[key].(type) {
		case string:
			w.writeString("", v)
		case json.Number:
			w.writeDigits(v)
		case map[string]any:
			if len(v) == 0 {
				w.writeOther("", v, false) // null or {}
				continue
			}
			w.writeValues(v)
		default:
			w.writeOther("", v, false)
		}
	}
	w.writeRaw(`}`)
}

// writeDigits writes a number unchanged if it has only digits; encoding/json validates other numbers.
func (w *jsonWriter) writeDigits(n json.Number) {
	if len(n) == 0 || n[0] == '0' || strings.Trim(string(n), "0123456789") != "" {
		w.writeOther("", n, false)
		return
	}
	w.writeRaw(string(n))
}

// writeFlags writes nothing if the cell reported no flags.
func (w *jsonWriter) writeFlags(before string, f *cells.FlagsReport) {
	if f == nil {
		return
	}
	w.writeRaw(before)
	w.writeNumber(`{"height":`, f.Height)
	if f.Bundle != "" {
		w.writeString(`,"bundle":`, string(f.Bundle))
	}
	if f.Orders != "" {
		w.writeString(`,"orders":`, string(f.Orders))
	}
	comma := `,"states":{`
	for _, id := range slices.Sorted(maps.Keys(f.States)) {
		w.writeString(comma, id)
		w.writeString(`:`, string(f.States[id]))
		comma = `,`
	}
	if len(f.States) > 0 {
		w.writeRaw(`}`)
	}
	if f.Fault != "" {
		w.writeString(`,"fault":`, f.Fault)
	}
	w.writeRaw(`}`)
}

func (w *jsonWriter) writeBoots(before string, all []plan.Boot) {
	w.writeRaw(before)
	if all == nil {
		w.writeRaw(`null`)
		return
	}
	w.writeRaw(`[`)
	for i, b := range all {
		if i > 0 {
			w.writeRaw(`,`)
		}
		w.writeBoot(b)
	}
	w.writeRaw(`]`)
}

func (w *jsonWriter) writeBoot(b plan.Boot) {
	w.writeString(`{"id":`, b.ID)
	w.writeTime(`,"first":`, b.First)
	w.writeTime(`,"last":`, b.Last)
	w.writeNonZero(`,"backs":`, int64(b.Backs))
	if !b.Sent.IsZero() {
		w.writeTime(`,"sent":`, b.Sent)
	}
	w.writeNonZero(`,"skew":`, int64(b.Skew))
	w.writeNonZero(`,"confirmed":`, b.Confirmed)
	w.writeNonZero(`,"rewound":`, int64(b.Rewound))
	if b.Ran {
		w.writeRaw(`,"ran":true`)
	}
	w.writeNonZero(`,"lost":`, int64(b.Lost))
	if !b.LostAt.IsZero() {
		w.writeTime(`,"lostAt":`, b.LostAt)
	}
	for i, m := range b.Marks {
		if i == 0 {
			w.writeRaw(`,"marks":[`)
		} else {
			w.writeRaw(`,`)
		}
		w.writeNumber(`{"number":`, m.Number)
		w.writeRaw(`,"sum":`)
		w.b = strconv.AppendUint(w.b, m.Sum, 10)
		w.writeTime(`,"at":`, m.At)
		w.writeRaw(`}`)
	}
	if len(b.Marks) > 0 {
		w.writeRaw(`]`)
	}
	w.writeRaw(`}`)
}

func (w *jsonWriter) writeNonZero(before string, n int64) {
	if n != 0 {
		w.writeNumber(before, n)
	}
}

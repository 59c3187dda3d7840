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

// encodeState is Encode of a cell's state, byte for byte, spelled out: every report writes one, and reflection over it
// was the dearest part of keeping it. Parts that reports rarely have are left to Encode's way.
func encodeState(s *plan.CellState) (string, error) {
	w := writing{b: make([]byte, 0, 1536)}
	w.text(`{"Name":`, s.Name)
	w.text(`,"Channel":`, s.Channel)
	w.number(`,"Epoch":`, s.Epoch)
	w.number(`,"Sequence":`, s.Sequence)
	w.text(`,"Release":`, s.Release)
	w.text(`,"Digest":`, string(s.Digest))
	w.text(`,"State":`, string(s.State))
	w.text(`,"Message":`, s.Message)
	w.time(`,"HealthySince":`, s.HealthySince)
	w.number(`,"Soaked":`, int64(s.Soaked))
	w.time(`,"LastReport":`, s.LastReport)
	w.number(`,"Skew":`, int64(s.Skew))
	w.number(`,"Infrastructure":`, int64(s.Infrastructure))
	w.assignment(`,"Running":`, s.Running)
	w.assignment(`,"Applying":`, s.Applying)
	w.assignment(`,"Granted":`, s.Granted)
	w.time(`,"GrantedAt":`, s.GrantedAt)
	w.other(`,"Left":`, s.Left, s.Left == nil)
	w.text(`,"Taken":`, s.Taken)
	w.time(`,"StartedAt":`, s.StartedAt)
	w.other(`,"Failures":`, s.Failures, s.Failures == nil)
	w.other(`,"Owner":`, s.Owner, s.Owner == nil)
	w.flags(`,"Flags":`, s.Flags)
	w.boots(`,"Boots":`, s.Boots)
	w.number(`,"Confirmed":`, s.Confirmed)
	if s.Miscount != nil {
		w.other(`,"Miscount":`, s.Miscount, false)
	}
	w.text(`,"Clone":`, s.Clone)
	w.number(`,"Joined":`, s.Joined)
	w.number(`,"Version":`, s.Version)
	w.raw(`}`)
	return string(w.b), w.err
}

// writing is JSON being written, up to the first error.
type writing struct {
	b   []byte
	err error
}

func (w *writing) raw(text string) { w.b = append(w.b, text...) }

func (w *writing) number(before string, n int64) {
	w.raw(before)
	w.b = strconv.AppendInt(w.b, n, 10)
}

// text writes a string; one that needs an escape is left to encoding/json.
func (w *writing) text(before, text string) {
	w.raw(before)
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ', c >= 0x7f, c == '"', c == '\\', c == '<', c == '>', c == '&':
			w.other("", text, false)
			return
		}
	}
	w.b = append(w.b, '"')
	w.raw(text)
	w.b = append(w.b, '"')
}

func (w *writing) time(before string, t time.Time) {
	w.raw(before)
	w.b = append(w.b, '"')
	b, err := t.AppendText(w.b)
	if err != nil {
		w.fail(err)
		return
	}
	w.b = append(b, '"')
}

// other writes what there is no quicker way for.
func (w *writing) other(before string, v any, null bool) {
	w.raw(before)
	if null {
		w.raw(`null`)
		return
	}
	b, err := json.Marshal(v)
	w.fail(err)
	w.b = append(w.b, b...)
}

func (w *writing) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *writing) assignment(before string, a *cells.Assignment) {
	w.raw(before)
	if a == nil {
		w.raw(`null`)
		return
	}
	w.text(`{"channel":`, a.Channel)
	w.number(`,"epoch":`, a.Epoch)
	w.number(`,"sequence":`, a.Sequence)
	w.text(`,"release":`, a.Release)
	w.text(`,"digest":`, string(a.Digest))
	if a.Profile != "" {
		w.text(`,"profile":`, a.Profile)
	}
	if len(a.Values) > 0 {
		w.raw(`,"values":`)
		w.values(a.Values)
	}
	if a.Revision != "" {
		w.text(`,"revision":`, a.Revision)
	}
	if a.Forward {
		w.raw(`,"forwardOnly":true`)
	}
	w.raw(`}`)
}

// values writes a cell's values, whose strings are most of what they are.
func (w *writing) values(all map[string]any) {
	comma := `{`
	for _, key := range slices.Sorted(maps.Keys(all)) {
		w.text(comma, key)
		comma = `,`
		w.raw(`:`)
		switch v := all[key].(type) {
		case string:
			w.text("", v)
		case json.Number:
			w.digits(v)
		case map[string]any:
			if len(v) == 0 {
				w.other("", v, false) // null or {}
				continue
			}
			w.values(v)
		default:
			w.other("", v, false)
		}
	}
	w.raw(`}`)
}

// digits writes a number as it came; what is more than digits is left to encoding/json, which looks whether it is one.
func (w *writing) digits(n json.Number) {
	if len(n) == 0 || n[0] == '0' || strings.Trim(string(n), "0123456789") != "" {
		w.other("", n, false)
		return
	}
	w.raw(string(n))
}

// flags is left out if the cell said nothing of flags.
func (w *writing) flags(before string, f *cells.FlagsReport) {
	if f == nil {
		return
	}
	w.raw(before)
	w.number(`{"height":`, f.Height)
	if f.Bundle != "" {
		w.text(`,"bundle":`, string(f.Bundle))
	}
	if f.Orders != "" {
		w.text(`,"orders":`, string(f.Orders))
	}
	comma := `,"states":{`
	for _, id := range slices.Sorted(maps.Keys(f.States)) {
		w.text(comma, id)
		w.text(`:`, string(f.States[id]))
		comma = `,`
	}
	if len(f.States) > 0 {
		w.raw(`}`)
	}
	if f.Fault != "" {
		w.text(`,"fault":`, f.Fault)
	}
	w.raw(`}`)
}

func (w *writing) boots(before string, all []plan.Boot) {
	w.raw(before)
	if all == nil {
		w.raw(`null`)
		return
	}
	w.raw(`[`)
	for i, b := range all {
		if i > 0 {
			w.raw(`,`)
		}
		w.boot(b)
	}
	w.raw(`]`)
}

func (w *writing) boot(b plan.Boot) {
	w.text(`{"id":`, b.ID)
	w.time(`,"first":`, b.First)
	w.time(`,"last":`, b.Last)
	w.filled(`,"backs":`, int64(b.Backs))
	if !b.Sent.IsZero() {
		w.time(`,"sent":`, b.Sent)
	}
	w.filled(`,"skew":`, int64(b.Skew))
	w.filled(`,"confirmed":`, b.Confirmed)
	w.filled(`,"rewound":`, int64(b.Rewound))
	for i, m := range b.Marks {
		if i == 0 {
			w.raw(`,"marks":[`)
		} else {
			w.raw(`,`)
		}
		w.number(`{"number":`, m.Number)
		w.raw(`,"sum":`)
		w.b = strconv.AppendUint(w.b, m.Sum, 10)
		w.time(`,"at":`, m.At)
		w.raw(`}`)
	}
	if len(b.Marks) > 0 {
		w.raw(`]`)
	}
	w.raw(`}`)
}

// filled writes a number that is left out if it is 0.
func (w *writing) filled(before string, n int64) {
	if n != 0 {
		w.number(before, n)
	}
}

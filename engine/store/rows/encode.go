package rows

import (
	"maps"
	"slices"
	"strconv"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/jsonwrite"
)

// encodeState returns the same bytes as Encode of a cell's state, without reflection, which was the most expensive part
// of storing reports. Parts that reports rarely have are left to Encode.
func encodeState(s *plan.CellState) (string, error) {
	w := jsonWriter{jsonwrite.Writer{Bytes: make([]byte, 0, 1536)}}
	w.String(`{"Name":`, s.Name)
	w.String(`,"Channel":`, s.Channel)
	w.Number(`,"Epoch":`, s.Epoch)
	w.Number(`,"Sequence":`, s.Sequence)
	w.String(`,"Release":`, s.Release)
	w.String(`,"Digest":`, string(s.Digest))
	w.String(`,"State":`, string(s.State))
	w.String(`,"Message":`, s.Message)
	if s.Unhealthy != nil {
		w.writeOther(`,"Unhealthy":`, s.Unhealthy, false)
	}
	w.Time(`,"HealthySince":`, s.HealthySince)
	w.Number(`,"Soaked":`, int64(s.Soaked))
	if len(s.Gaps) > 0 {
		w.writeOther(`,"Gaps":`, s.Gaps, false)
	}
	w.Time(`,"LastReport":`, s.LastReport)
	w.Number(`,"Skew":`, int64(s.Skew))
	w.Number(`,"Infrastructure":`, int64(s.Infrastructure))
	if s.Actual != nil {
		w.writeOther(`,"Actual":`, s.Actual, false)
	}
	w.Raw(`,"Running":`)
	begin := len(w.Bytes)
	w.writeAssignment("", s.Running)
	end := len(w.Bytes)
	w.writeAssignment(`,"Applying":`, s.Applying)
	if s.Granted.Identical(s.Running) { // as where a rollout is over
		w.Raw(`,"Granted":`)
		w.Bytes = append(w.Bytes, w.Bytes[begin:end]...)
	} else {
		w.writeAssignment(`,"Granted":`, s.Granted)
	}
	w.Time(`,"GrantedAt":`, s.GrantedAt)
	w.writeOther(`,"Left":`, s.Left, s.Left == nil)
	w.String(`,"Taken":`, s.Taken)
	w.Time(`,"StartedAt":`, s.StartedAt)
	w.Time(`,"ReachedAt":`, s.ReachedAt)
	w.Time(`,"IllSince":`, s.IllSince)
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
	w.Number(`,"Confirmed":`, s.Confirmed)
	if s.Miscount != nil {
		w.writeOther(`,"Miscount":`, s.Miscount, false)
	}
	w.String(`,"Clone":`, s.Clone)
	w.Number(`,"Joined":`, s.Joined)
	w.Number(`,"Version":`, s.Version)
	w.Raw(`}`)
	return string(w.Bytes), w.Err
}

// jsonWriter writes the parts of a state.
type jsonWriter struct{ jsonwrite.Writer }

func (w *jsonWriter) writeAssignment(before string, a *cells.Assignment) {
	w.Raw(before)
	if a == nil {
		w.Raw(`null`)
		return
	}
	b, err := a.AppendJSON(w.Bytes, nil)
	if w.Bytes = b; w.Err == nil {
		w.Err = err
	}
}

// writeOther writes a value of any kind; encoding/json encodes it.
func (w *jsonWriter) writeOther(before string, v any, null bool) {
	if null {
		w.Raw(before)
		w.Raw(`null`)
		return
	}
	w.Other(before, v)
}

// writeFlags writes nothing if the cell reported no flags.
func (w *jsonWriter) writeFlags(before string, f *cells.FlagsReport) {
	if f == nil {
		return
	}
	w.Raw(before)
	w.Number(`{"height":`, f.Height)
	if f.Bundle != "" {
		w.String(`,"bundle":`, string(f.Bundle))
	}
	if f.Orders != "" {
		w.String(`,"orders":`, string(f.Orders))
	}
	comma := `,"states":{`
	for _, id := range slices.Sorted(maps.Keys(f.States)) {
		w.String(comma, id)
		w.String(`:`, string(f.States[id]))
		comma = `,`
	}
	if len(f.States) > 0 {
		w.Raw(`}`)
	}
	if f.Fault != "" {
		w.String(`,"fault":`, f.Fault)
	}
	w.Raw(`}`)
}

func (w *jsonWriter) writeBoots(before string, all []plan.Boot) {
	w.Raw(before)
	if all == nil {
		w.Raw(`null`)
		return
	}
	w.Raw(`[`)
	for i, b := range all {
		if i > 0 {
			w.Raw(`,`)
		}
		w.writeBoot(b)
	}
	w.Raw(`]`)
}

func (w *jsonWriter) writeBoot(b plan.Boot) {
	w.String(`{"id":`, b.ID)
	w.Time(`,"first":`, b.First)
	w.Time(`,"last":`, b.Last)
	w.NonZero(`,"backs":`, int64(b.Backs))
	if !b.Sent.IsZero() {
		w.Time(`,"sent":`, b.Sent)
	}
	w.NonZero(`,"skew":`, int64(b.Skew))
	w.NonZero(`,"confirmed":`, b.Confirmed)
	w.NonZero(`,"rewound":`, int64(b.Rewound))
	if b.Ran {
		w.Raw(`,"ran":true`)
	}
	w.NonZero(`,"lost":`, int64(b.Lost))
	if !b.LostAt.IsZero() {
		w.Time(`,"lostAt":`, b.LostAt)
	}
	for i, m := range b.Marks {
		if i == 0 {
			w.Raw(`,"marks":[`)
		} else {
			w.Raw(`,`)
		}
		w.Number(`{"number":`, m.Number)
		w.Raw(`,"sum":`)
		w.Bytes = strconv.AppendUint(w.Bytes, m.Sum, 10)
		w.Time(`,"at":`, m.At)
		w.Raw(`}`)
	}
	if len(b.Marks) > 0 {
		w.Raw(`]`)
	}
	w.Raw(`}`)
}

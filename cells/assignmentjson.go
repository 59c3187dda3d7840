package cells

import "github.com/sluice-cd/sluice/internal/jsonwrite"

// AppendJSON appends what json.Marshal returns, without reflection: control planes encode assignments for each of ten
// thousand cells at once, and with each report. values is what MarshalValues returns; nil: not known.
func (a *Assignment) AppendJSON(b, values []byte) ([]byte, error) {
	w := jsonwrite.Writer{Bytes: b}
	w.String(`{"channel":`, a.Channel)
	w.Number(`,"epoch":`, a.Epoch)
	w.Number(`,"sequence":`, a.Sequence)
	w.String(`,"release":`, a.Release)
	w.String(`,"digest":`, string(a.Digest))
	if a.Profile != "" {
		w.String(`,"profile":`, a.Profile)
	}
	switch {
	case len(a.Values) == 0:
	case values != nil:
		w.Raw(`,"values":`)
		w.Bytes = append(w.Bytes, values...)
	default:
		w.Values(`,"values":`, a.Values)
	}
	if a.Revision != "" {
		w.String(`,"revision":`, a.Revision)
	}
	if a.ForwardOnly {
		w.Raw(`,"forwardOnly":true`)
	}
	if a.Retry != "" {
		w.String(`,"retry":`, a.Retry)
	}
	w.Raw(`}`)
	return w.Bytes, w.Err
}

// MarshalValues returns the values as JSON. They are the same in all assignments with the same Revision.
func (a *Assignment) MarshalValues() ([]byte, error) {
	var w jsonwrite.Writer
	w.Values("", a.Values)
	return w.Bytes, w.Err
}

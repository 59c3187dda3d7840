package outbox

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

// What begins the types of CloudEvents: before the type of an announce.Event, and before the kind of a notice.
const (
	TypePrefix       = "io.github.sluice-cd.flags."
	NoticeTypePrefix = "io.github.sluice-cd.notices."
)

// Sources of CloudEvents. Their ids are unique in each.
const (
	Source       = "/sluice/flags"
	NoticeSource = "/sluice/notices"
)

// event is a CloudEvent in the JSON format:
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
type event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject,omitempty"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        any       `json:"data"`
}

// encodeEvent returns the body of a message: the same bytes for every attempt.
func encodeEvent(m plan.Message) ([]byte, error) {
	e := m.Event
	out := event{
		SpecVersion: "1.0", ID: e.ID, Source: Source, Type: TypePrefix + e.Type,
		Subject: cmp.Or(e.Announcement, e.Flag), Time: e.At.UTC(),
		ContentType: "application/json", Data: e,
	}
	if len(m.Notice) > 0 {
		out.Source, out.Type, out.Subject, out.Data = NoticeSource, NoticeTypePrefix+e.Type, e.Channel, m.Notice
	}
	return json.Marshal(out)
}

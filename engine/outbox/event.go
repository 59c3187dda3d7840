package outbox

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/sluice-cd/sluice/flags/announce"
)

// TypePrefix begins the types of CloudEvents, before the type of an announce.Event.
const TypePrefix = "io.github.sluice-cd.flags."

// Source is the source of CloudEvents. Their ids are unique in it.
const Source = "/sluice/flags"

// event is a CloudEvent in the JSON format:
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
type event struct {
	SpecVersion string         `json:"specversion"`
	ID          string         `json:"id"`
	Source      string         `json:"source"`
	Type        string         `json:"type"`
	Subject     string         `json:"subject,omitempty"`
	Time        time.Time      `json:"time"`
	ContentType string         `json:"datacontenttype"`
	Data        announce.Event `json:"data"`
}

// encodeEvent returns the body of a message: the same bytes for every attempt.
func encodeEvent(e announce.Event) ([]byte, error) {
	return json.Marshal(event{
		SpecVersion: "1.0", ID: e.ID, Source: Source, Type: TypePrefix + e.Type,
		Subject: cmp.Or(e.Announcement, e.Flag), Time: e.At.UTC(),
		ContentType: "application/json", Data: e,
	})
}

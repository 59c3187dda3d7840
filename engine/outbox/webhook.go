package outbox

import (
	"context"
	"net/http"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

// webhook gets each message as one signed CloudEvent.
type webhook struct {
	poster
	url    string
	secret func() (string, error) // of parseSecrets; the error's text is shown
}

func (h webhook) address() string { return h.url }

func (h webhook) deliver(ctx context.Context, messages []plan.Message) (int, attemptResult) {
	m := messages[0]
	secret, err := h.secret()
	if err == nil {
		_, err = parseSecrets(secret)
	}
	if err != nil {
		return 1, failed("gets no messages, since nothing can be signed: "+err.Error(), err)
	}
	body, err := encodeEvent(m)
	if err != nil {
		return 1, failed("the event can't be written", err)
	}
	return 1, h.post(ctx, h.url, "application/cloudevents+json; charset=utf-8", body, func(header http.Header) error {
		return sign(header, m.Event.ID, time.Now(), body, secret)
	})
}

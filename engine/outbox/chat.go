package outbox

import (
	"context"
	"errors"
	"net/url"

	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/repository"
)

// chat gets what is due as one message of a chat program.
type chat struct {
	poster
	secret func() (string, error) // the URL
	encode func(notices.Digest) ([]byte, error)
}

// address returns the URL, which is a secret: it is compared only.
func (c chat) address() string {
	address, _ := c.secret()
	return address
}

func (c chat) deliver(ctx context.Context, messages []plan.Message) (int, attemptResult) {
	d, covered, err := gather(messages)
	if err != nil {
		return covered, attemptResult{messageOnly: true, why: "the notice in the store is damaged", err: err}
	}
	address, err := c.secret()
	if err != nil {
		return covered, failed("gets no messages: "+err.Error(), err)
	}
	if err := checkSecretURL(address); err != nil {
		return covered, failed("gets no messages: "+err.Error(), err)
	}
	body, err := c.encode(d)
	if err != nil {
		return covered, failed("the message can't be written", err)
	}
	return covered, c.post(ctx, address, "application/json; charset=utf-8", body, nil)
}

// checkSecretURL checks a URL that is a secret. Its errors do not repeat it.
func checkSecretURL(address string) error {
	if u, err := url.Parse(address); err == nil && u.User == nil && repository.CheckURL(address) == nil {
		return nil
	}
	return errors.New("the file of its secret must hold one URL, such as https://hooks.example.com/…")
}

// gather makes one message of the first of messages and as many behind it as fit.
func gather(messages []plan.Message) (d notices.Digest, covered int, err error) {
	due := make([]notices.Notice, 0, len(messages))
	for i, m := range messages {
		n, err := decodeNotice(m)
		if err != nil {
			if i == 0 {
				return d, 1, err
			}
			break // it fails by itself
		}
		due = append(due, n)
	}
	d, covered = notices.Gather(due)
	return d, covered, nil
}

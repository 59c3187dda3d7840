package signin

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/limit"
)

// boundClient returns a client like c whose requests end in time, whose responses are bounded, and that asks for
// documents, such as keys, a few times a minute at most: a stranger's token that names an unknown key makes the
// library ask for the keys again.
func boundClient(c *http.Client) *http.Client {
	bound := *c
	base := c.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	bound.Timeout = providerTimeout
	bound.Transport = &boundTransport{base: base, begun: time.Now()}
	return &bound
}

type boundTransport struct {
	base      http.RoundTripper
	begun     time.Time
	documents limit.Bucket
}

// documentRate is how often documents are asked for: often enough for keys that rotate at any time.
func documentRate() limit.Rate { return limit.Rate{PerSecond: 0.5, Burst: 20} }

func (t *boundTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && r.Header.Get("Authorization") == "" {
		if _, ok := t.documents.Allow(documentRate(), time.Since(t.begun)); !ok {
			return nil, errors.New("this was asked for too often: try again in some seconds")
		}
	}
	w, err := t.base.RoundTrip(r)
	if err == nil {
		w.Body = boundBody{io.LimitReader(w.Body, maxResponse), w.Body}
	}
	return w, err
}

type boundBody struct {
	io.Reader
	io.Closer
}

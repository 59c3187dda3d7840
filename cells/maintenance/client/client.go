// Package client lets a product ask the agent of its cell, on the local socket, whether it may start an operation. It
// needs nothing but the standard library.
//
//	c := client.New("/run/sluice/local.sock", client.Options{})
//	operation, err := c.Begin(ctx, "start", workspace.ID)
//	var refused *client.Refused
//	if errors.As(err, &refused) {
//		return refused.Text // what the user sees
//	}
//	defer operation.End()
//
// It fails safe. While the agent can't be reached, the client goes by what it was told last, until the end that it was
// told then: operations stay refused in a maintenance, and are allowed after its end and where there was none. Such an
// operation says so (Operation.Unconfirmed), and is registered once the agent is back. The time left is counted by the
// monotonic clock, so a step of the machine's clock changes nothing.
//
// A Client may be used by any number of goroutines at once; there is one per process. Each operation has one goroutine
// that renews its lease until End.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// State is what the agent says of maintenances.
type State struct {
	Phase    string    `json:"phase"` // off, announced, draining or drained
	Refused  []string  `json:"refused"`
	Begins   time.Time `json:"begins"`
	Until    time.Time `json:"until"`
	Seconds  int64     `json:"seconds"` // until Until, when this was received; 0: nothing is refused
	Release  string    `json:"release"`
	Reason   string    `json:"reason"`
	Text     string    `json:"text"` // what a user sees
	Language string    `json:"language"`
}

// Refused says that an operation may not begin now.
type Refused struct {
	Text  string        // what the user sees
	After time.Duration // ask again then
	// Unconfirmed says that the agent could not be asked, and this is what it said last.
	Unconfirmed bool
}

func (e *Refused) Error() string { return e.Text }

// Options configure a Client.
type Options struct {
	Language string        // for texts, as Accept-Language has it; see also WithLanguage. Empty: the cell's first
	Timeout  time.Duration // for one question; default 2s
	Renew    time.Duration // between renewals of a lease; default 5s, a third of its time
}

// Client asks one agent.
type Client struct {
	base    string
	http    *http.Client
	options Options

	mu    sync.Mutex
	known State     // as received last
	until time.Time // by the monotonic clock; zero: nothing is refused
}

// New returns a client of the agent at an address: the path of its socket, unix:///PATH, or http://127.0.0.1:PORT.
// Nothing is asked yet.
func New(address string, o Options) *Client {
	o.Timeout, o.Renew = cmp.Or(o.Timeout, 2*time.Second), cmp.Or(o.Renew, 5*time.Second)
	c := &Client{base: strings.TrimSuffix(address, "/"), options: o}
	transport := &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}
	if !strings.HasPrefix(address, "http://") {
		path, _, _ := strings.Cut(strings.TrimPrefix(address, "unix://"), "?")
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		c.base = "http://localhost"
	}
	c.http = &http.Client{Transport: transport}
	return c
}

type languageKey struct{}

// WithLanguage has questions under the context answered in a user's languages, as Accept-Language has them.
func WithLanguage(ctx context.Context, accept string) context.Context {
	return context.WithValue(ctx, languageKey{}, accept)
}

// Operation is under way until End.
type Operation struct {
	Kind, Key string
	// Unconfirmed says that the agent could not be asked: the operation was allowed by what it said last.
	Unconfirmed bool

	client *Client
	cancel context.CancelFunc
	done   chan struct{}
}

// Begin asks whether an operation may begin, and keeps its lease until End. kind is such as start, and key names the
// operation within its kind. An error is a *Refused, ctx's, or says that the question itself is wrong.
func (c *Client) Begin(ctx context.Context, kind, key string) (*Operation, error) {
	op := &Operation{Kind: kind, Key: key, client: c, done: make(chan struct{})}
	err := c.ask(ctx, op, false)
	if unreachable := new(unreachableError); errors.As(err, &unreachable) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		op.Unconfirmed = true
		err = c.lastKnown(kind)
	}
	if err != nil {
		return nil, err
	}
	renewing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	op.cancel = cancel
	go op.renew(renewing)
	return op, nil
}

// End ends the operation, after a renewal that is under way. It may be called more than once, though not at once. An
// agent that can't be reached forgets the operation by itself.
func (op *Operation) End() {
	op.cancel()
	<-op.done
	ctx, cancel := context.WithTimeout(context.Background(), op.client.options.Timeout)
	defer cancel()
	path := "/v1/operations/" + url.PathEscape(op.Kind) + "/" + url.PathEscape(op.Key)
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, op.client.base+path, nil)
	if err != nil {
		return
	}
	if response, err := op.client.http.Do(request); err == nil {
		discard(response)
	}
}

// renew keeps the lease. An agent that was away learns of the operation again.
func (op *Operation) renew(ctx context.Context) {
	defer close(op.done)
	tick := time.NewTicker(op.client.options.Renew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// The operation goes on in any case. A renewal that was cut off could reach the agent after the end.
			_ = op.client.ask(context.WithoutCancel(ctx), op, true)
		}
	}
}

type unreachableError struct{ cause error }

func (e *unreachableError) Error() string {
	return "the cell's agent can't be reached: " + e.cause.Error()
}

func (c *Client) ask(ctx context.Context, op *Operation, running bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{"kind": op.Kind, "key": op.Key, "running": running})
	if err != nil {
		return err
	}
	response, err := c.send(ctx, http.MethodPost, "/v1/operations", body)
	if err != nil {
		return &unreachableError{err}
	}
	defer discard(response)
	var answer struct {
		Detail      string `json:"detail"`
		Maintenance *State `json:"maintenance"`
	}
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated:
		if response.StatusCode == http.StatusCreated && !running {
			c.learnGranted(op.Kind)
		}
		return nil
	case http.StatusLocked, http.StatusBadRequest:
	default:
		return &unreachableError{fmt.Errorf("it answers %s", response.Status)}
	}
	if err := decode(response, &answer); err != nil {
		return &unreachableError{err}
	}
	if response.StatusCode == http.StatusBadRequest {
		return fmt.Errorf("begin %s %s: %s", op.Kind, op.Key, answer.Detail)
	}
	if answer.Maintenance != nil {
		c.learn(*answer.Maintenance)
	}
	return &Refused{Text: answer.Detail, After: retryAfter(response)}
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	language, _ := ctx.Value(languageKey{}).(string)
	if language = cmp.Or(language, c.options.Language); language != "" {
		request.Header.Set("Accept-Language", language)
	}
	return c.http.Do(request)
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 64 << 10

func decode(response *http.Response, into any) error {
	return json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(into)
}

func discard(response *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer))
	_ = response.Body.Close()
}

func retryAfter(response *http.Response) time.Duration {
	n, err := strconv.ParseInt(response.Header.Get("Retry-After"), 10, 32)
	if err != nil || n < 1 {
		n = 1
	}
	return time.Duration(n) * time.Second
}

// learn takes the agent's word.
func (c *Client) learn(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.until = s, time.Time{}
	if s.Seconds > 0 {
		c.until = time.Now().Add(time.Duration(s.Seconds) * time.Second)
	}
}

// learnGranted forgets a refusal of a kind that the agent now grants anew. That it renews a lease, or takes over what
// is under way, says nothing: it does so in a maintenance too.
func (c *Client) learnGranted(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.known.Refused, kind) {
		c.until = time.Time{}
	}
}

// lastKnown returns why an operation of a kind may not begin by what the agent said last, or nil.
func (c *Client) lastKnown(kind string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := time.Until(c.until)
	if c.until.IsZero() || left <= 0 || !slices.Contains(c.known.Refused, kind) {
		return nil
	}
	return &Refused{Text: c.known.Text, After: left, Unconfirmed: true}
}

// Watch calls on with each state, beginning with the present one, until ctx ends. It also lets Begin know the last
// word of an agent that dies. While the agent can't be reached it tries again each second.
func (c *Client) Watch(ctx context.Context, on func(State)) {
	tag := ""
	for ctx.Err() == nil {
		next, err := c.poll(ctx, tag, on)
		if err == nil {
			tag = next
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// poll waits for a state other than that of tag, and returns its tag.
func (c *Client) poll(ctx context.Context, tag string, on func(State)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, pollWait+10*time.Second)
	defer cancel()
	path := "/v1/maintenance"
	if tag != "" {
		path += fmt.Sprintf("?wait=%d", pollWait/time.Second)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("If-None-Match", tag)
	if c.options.Language != "" {
		request.Header.Set("Accept-Language", c.options.Language)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return "", err
	}
	defer discard(response)
	switch response.StatusCode {
	case http.StatusNotModified:
		return tag, nil
	case http.StatusOK:
	default:
		return "", fmt.Errorf("watch maintenances: the agent answers %s", response.Status)
	}
	var s State
	if err := decode(response, &s); err != nil {
		return "", err
	}
	c.learn(s)
	on(s)
	return response.Header.Get("ETag"), nil
}

const pollWait = 30 * time.Second

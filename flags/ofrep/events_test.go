package ofrep

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
)

// openStream opens a stream and returns its events, as id and data. The channel is closed when the stream ends.
func openStream(t *testing.T, ctx context.Context, url, last string) <-chan [2]string {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+eventsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if got.StatusCode != 200 || got.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", got.StatusCode, got.Header.Get("Content-Type"))
	}
	events := make(chan [2]string, 100)
	go func() {
		defer close(events)
		defer got.Body.Close()
		var event [2]string
		for lines := bufio.NewScanner(got.Body); lines.Scan(); {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				event[0] = id
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				event[1] = data
			}
			if lines.Text() == "" && event[1] != "" {
				events <- event
				event = [2]string{}
			}
		}
	}()
	return events
}

func nextEvent(t *testing.T, events <-chan [2]string) [2]string {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(time.Minute):
		t.Fatal("nothing comes")
		return [2]string{}
	}
}

func TestEvents(t *testing.T) {
	early, late := foldBundle(t, 99), foldBundle(t, 100)
	c := newTestSource(early, 99)
	url := serve(t, c, Options{})
	ctx, leave := context.WithCancel(t.Context())
	events := openStream(t, ctx, url, "")
	knowing := openStream(t, ctx, url, early.Revision())
	const refetch = `{"type":"refetchEvaluation"}`
	if e := nextEvent(t, events); e != [2]string{early.Revision(), refetch} {
		t.Errorf("at first: %v", e)
	}
	c.setFlags(foldBundle(t, 98), 98) // folded again, and nothing is new
	c.setFlags(late, 100)             // a timed flip
	for name, stream := range map[string]<-chan [2]string{"one that was told": events, "one that knew": knowing} {
		if e := nextEvent(t, stream); e != [2]string{late.Revision(), refetch} {
			t.Errorf("%s: %v", name, e)
		}
	}
	leave()
	for range events { // ends
	}
}

func TestStreamsAreBounded(t *testing.T) {
	c := newTestSource(foldBundle(t, 99), 99)
	url := serve(t, c, Options{})
	ctx, leave := context.WithCancel(t.Context())
	streams := make([]<-chan [2]string, maxStreams)
	for i := range streams {
		streams[i] = openStream(t, ctx, url, "")
	}
	if got := request(t, "GET", url+eventsPath, ""); got.status != 429 || got.header.Get("Retry-After") != "30" {
		t.Errorf("one more: %d", got.status)
	}
	if got := request(t, "POST", url+bulkPath, ""); got.status != 200 {
		t.Errorf("a question beside them: %d", got.status)
	}
	leave()
	for _, s := range streams {
		for range s { // ends
		}
	}
	deadline := time.Now().Add(time.Minute)
	for {
		if got := request(t, "HEAD", url+eventsPath, ""); got.status == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("places are not free again")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A stream outlives the limits of requests, and ends with the server.
func TestStreamOutlivesTheServersLimits(t *testing.T) {
	c := newTestSource(foldBundle(t, 99), 99)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	server := Server(ctx, New(c, zerolog.Nop(), Options{}))
	server.ReadTimeout, server.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	url := start(t, server)
	events := openStream(t, t.Context(), url, "")
	nextEvent(t, events)
	time.Sleep(200 * time.Millisecond)
	c.setFlags(foldBundle(t, 100), 100)
	if e := nextEvent(t, events); e[1] == "" {
		t.Error("it ended with the server's limit for requests")
	}
	stop()
	if e, open := <-events; open {
		t.Errorf("after the end there is %v", e)
	}
}

func TestEventsBeforeThereAreFlags(t *testing.T) {
	c := newTestSource(nil, 0)
	url := serve(t, c, Options{})
	events := openStream(t, t.Context(), url, "")
	f := foldBundle(t, 100)
	c.setFlags(f, 100)
	if e := nextEvent(t, events); e[0] != f.Revision() {
		t.Errorf("%v", e)
	}
}

// Issue 13, part 10: where no event could tell of a rule's change, the bulk answer names no stream of events, so that
// clients poll.
func TestNoStreamWhereTimeIsComputed(t *testing.T) {
	for rule, want := range map[string]bool{
		`{"if":[{">":[{"var":"$flagd.timestamp"},100]},"on","off"]}`:             true,
		`{"if":[{">":[{"%":[{"var":"$flagd.timestamp"},60]},30]},"on","off"]}`:   false,
		`{"if":[{">":[{"var":"$flagd.timestamp"},{"var":"since"}]},"on","off"]}`: false,
	} {
		b := &flags.Bundle{Version: flags.BundleVersion, Channel: "staging", Flags: map[string]json.RawMessage{
			"late": json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":` +
				rule + `}`)}}
		url := serve(t, newTestSource(compile(t, b).Fold(flags.Orders{}, flags.Facts{}, 99), 99), Options{})
		got := request(t, "POST", url+bulkPath, "")
		if !json.Valid([]byte(got.body)) || strings.Contains(got.body, "eventStreams") != want {
			t.Errorf("%s: %s", rule, got.body)
		}
	}
}

package controlplane_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// viewWithFlags is viewOf with a bundle and orders for each named cell.
func viewWithFlags(height int64, bundles, orders map[string]string) *view.View {
	v := viewOf("1.0.1")
	v.Flags = &view.Flags{Height: height, Commit: "f1", ByCell: map[string]*cells.Flags{},
		Bundles: map[releases.Digest][]byte{}}
	for cell, bundle := range bundles {
		told := &cells.Flags{
			Height: height, Bundle: cells.FlagBundle{Digest: releases.DigestBytes([]byte(bundle)),
				Size: int64(len(bundle)), Metadata: []any{}},
			Orders: cells.Sealed{Payload: []byte(orders[cell]), Digest: releases.DigestBytes([]byte(orders[cell])),
				Metadata: []any{}},
		}
		v.Flags.ByCell[cell], v.Flags.Bundles[told.Bundle.Digest] = told, []byte(bundle)
	}
	return v
}

func bundlePath(bundle string) string {
	return "/v1/flagbundles/" + string(releases.DigestBytes([]byte(bundle)))
}

func TestBundle(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	bundle := `{"version":1,"flags":{` + strings.Repeat(" ", 5000) + `}}`
	s.setView(viewWithFlags(7, map[string]string{"acme": bundle}, nil))
	d := getJSON[cells.Desired](t, s, "/v1/desired?cell=acme")
	if d.Flags == nil || d.Flags.Height != 7 || d.Flags.Bundle.Size != int64(len(bundle)) {
		t.Fatalf("received %+v", d.Flags)
	}
	path := "/v1/flagbundles/" + string(d.Flags.Bundle.Digest) + "?cell=acme"
	w, plain := s.request(t, "GET", path, "")
	if w.StatusCode != 200 || plain != bundle ||
		w.Header.Get("Cache-Control") != "private, max-age=31536000, immutable" ||
		w.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s %v, %d bytes", w.Status, w.Header, len(plain))
	}
	if w, _ := s.request(t, "GET", path, "", "If-None-Match", w.Header.Get("ETag")); w.StatusCode != 304 {
		t.Errorf("If-None-Match: %s", w.Status)
	}
	var wg sync.WaitGroup
	for range 4 { // as many as one cell may have at once
		wg.Go(func() {
			w, small := s.request(t, "GET", path, "", "Accept-Encoding", "zstd")
			decoder, err := zstd.NewReader(strings.NewReader(small))
			if err != nil {
				t.Error(err)
				return
			}
			defer decoder.Close()
			if whole, err := io.ReadAll(decoder); err != nil || string(whole) != bundle ||
				len(small) >= len(bundle)/2 || w.Header.Get("Content-Encoding") != "zstd" {
				t.Errorf("zstd: %d bytes of %d, %v", len(whole), len(small), err)
			}
		})
	}
	wg.Wait()
	// Bytes that do not match their digest are not served (invariant 5).
	damaged := viewWithFlags(8, map[string]string{"acme": "{}"}, nil)
	damaged.Flags.Bundles[releases.DigestBytes([]byte("{}"))] = []byte("{} ")
	s.setView(damaged)
	w, body := s.request(t, "GET", bundlePath("{}")+"?cell=acme", "")
	wantProblem(t, w, body, 500, "log")
}

// R34, R39: a cell may download the bundle in its answer and the one before, and can't tell whether any other exists.
func TestBundleIsOffered(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	ask := func(cell, bundle string, status int) {
		t.Helper()
		path := bundlePath(bundle)
		if cell != "" {
			path += "?cell=" + cell
		}
		w, body := s.request(t, "GET", path, "")
		if w.StatusCode != status || status == 503 && w.Header.Get("Retry-After") != "1" ||
			status == 200 && body != bundle {
			t.Errorf("%s for %q: %s, not %d: %s", bundle, cell, w.Status, status, body)
		}
		if status >= 400 {
			wantProblem(t, w, body, status, "/v1/desired")
		}
	}
	ask("acme", "{1}", 404) // no flags
	first := viewWithFlags(1, map[string]string{"acme": "{1}", "bolt": "{2}"}, nil)
	s.setView(first)
	ask("acme", "{1}", 200)
	ask("acme", "{2}", 503) // another cell's
	ask("acme", "{9}", 503) // no cell's
	ask("", "{2}", 200)
	ask("crow", "{1}", 404) // has no flags
	ask("bolt", "{2}", 200)
	getJSON[cells.Desired](t, s, "/v1/desired?cell=acme")
	next := func(height int64, bundle string) {
		v := viewWithFlags(height, map[string]string{"acme": bundle, "bolt": "{2}"}, nil)
		maps.Copy(v.Flags.Bundles, first.Flags.Bundles)
		maps.Copy(v.Flags.Bundles, viewWithFlags(height, map[string]string{"acme": "{3}"}, nil).Flags.Bundles)
		s.setView(v)
		getJSON[cells.Desired](t, s, "/v1/desired?cell=acme")
	}
	next(2, "{3}")
	ask("acme", "{3}", 200)
	ask("acme", "{1}", 200) // it may be downloading it
	ask("bolt", "{1}", 503)
	next(3, "{4}")
	ask("acme", "{3}", 200)
	ask("acme", "{1}", 503) // the one before the one before
	if w, body := s.request(t, "GET", "/v1/flagbundles/sha256:00?cell=acme", ""); w.StatusCode != 404 {
		t.Errorf("no digest: %s %s", w.Status, body)
	}
}

// Polls, long polls and streams send the same flags; a change of the height alone notifies no cell (R31, R39).
func TestPollsAndStreamsSendSameFlags(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, func(o *controlplane.Options) { o.Limits.Cells.Polls.PerSecond = -1 })
	bundles := map[string]string{"acme": "{1}", "bolt": "{1}"}
	s.setView(viewWithFlags(1, bundles, nil))
	w, one := s.request(t, "GET", "/v1/desired?cell=acme", "")
	etag := w.Header.Get("ETag")
	s.setView(viewWithFlags(2, bundles, nil))
	if w, _ := s.request(t, "GET", "/v1/desired?cell=acme", "", "If-None-Match", etag); w.StatusCode != 304 {
		t.Errorf("another height: %s", w.Status)
	}
	waited := make(chan string, 1)
	go func() {
		_, body := s.request(t, "GET", "/v1/desired?cell=acme&wait=20s", "", "If-None-Match", etag)
		waited <- body
	}()
	s.awaitLongPolls(t, "1")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/desired?cell=acme", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	e := &eventReader{bufio.NewReader(answer.Body)}
	e.nextDesired(t)
	s.setView(viewWithFlags(3, bundles, map[string]string{"acme": `{"killed":[{"flag":"f"}]}`}))
	_, streamed := e.nextDesired(t)
	woken := <-waited
	_, polled := s.request(t, "GET", "/v1/desired?cell=acme", "")
	if polled == one || !strings.Contains(polled, `"height":3`) || woken != polled ||
		strings.TrimSpace(streamed) != strings.TrimSpace(polled) {
		t.Errorf("polled   %s\nwoken    %s\nstreamed %s", polled, woken, streamed)
	}
}

// R31, R39: a stream that tells of another bundle has its bytes, if they are few. The first answer and other changes do
// not, and the ETag is that of a poll's answer.
func TestStreamHasSmallBundles(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, func(o *controlplane.Options) { o.Limits.Cells.Polls.PerSecond = -1 })
	var random []byte // hardly compressible
	for sum := sha256.Sum256(nil); len(random) < 64<<10; sum = sha256.Sum256(sum[:]) {
		random = append(random, hex.EncodeToString(sum[:])...)
	}
	kill := map[string]string{"acme": `{"killed":[{"flag":"f"}]}`}
	show := func(height int64, bundle string, orders map[string]string) {
		s.setView(viewWithFlags(height, map[string]string{"acme": bundle}, orders))
	}
	show(1, "{1}", nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/desired?cell=acme", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	e := &eventReader{bufio.NewReader(answer.Body)}
	unpacker, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpacker.Close()
	next := func(what, want string) {
		t.Helper()
		tag, data := e.nextDesired(t)
		var d cells.Desired
		if err := json.Unmarshal([]byte(data), &d); err != nil {
			t.Fatal(err)
		}
		raw, err := unpacker.DecodeAll(d.Flags.Bundle.Content, nil)
		if err != nil || string(raw) != want {
			t.Errorf("%s: it came with %.40q (%v), want %.40q", what, raw, err, want)
		}
		if w, _ := s.request(t, "GET", "/v1/desired?cell=acme", ""); w.Header.Get("ETag") != tag {
			t.Errorf("%s: the stream says %s, a poll %s", what, tag, w.Header.Get("ETag"))
		}
	}
	next("the first answer", "")
	show(2, "{2}", nil)
	next("another bundle", "{2}")
	show(3, "{2}", kill)
	next("other orders", "")
	show(4, strings.Repeat("[{}]", 20_000), kill)
	next("one that compresses well", strings.Repeat("[{}]", 20_000))
	show(5, string(random), kill)
	next("a large one", "")
}

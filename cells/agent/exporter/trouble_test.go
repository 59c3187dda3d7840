package exporter_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/exporter"
)

// keep makes a file that waits, as of an instant.
func (c *cell) keep(at time.Time) {
	c.t.Helper()
	at = at.UTC().Truncate(time.Second)
	line := fmt.Sprintf(`{"at":%q,"metric":"queue","type":"gauge","value":1}`+"\n", at.Format(time.RFC3339))
	name := filepath.Join(c.dir, exporter.FolderName, at.Format("20060102T150405Z")+".jsonl")
	if err := os.WriteFile(name, []byte(line), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// An endpoint that is down for a day loses nothing, and nothing comes twice (E5).
func TestE5DownForADay(t *testing.T) {
	c := newCell(t)
	c.stop()
	const files = 48
	for i := range files {
		c.keep(time.Now().Add(-24*time.Hour + time.Duration(i)*24*time.Hour/files))
	}
	c.set(func() { c.down = http.StatusServiceUnavailable })
	c.start()
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.eventually("the endpoint was asked", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.refused > 1
	})
	c.set(func() { c.down = 0 })
	c.eventually("nothing waits", func() bool {
		waiting, _ := exporter.List(c.dir)
		return len(waiting) == 0
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.batches) != files {
		t.Errorf("%d of %d batches came", len(c.batches), files)
	}
	for i, b := range c.batches {
		if b.Sequence != int64(i+1) || b.Gap != nil || i > 0 && !b.At.After(c.batches[i-1].At) {
			t.Errorf("batch %d is %+v", i+1, b)
		}
	}
}

// A clock that was set back leaves files of the future, which would hold up all that comes: they are a gap, and the
// vendor is told why (E5).
func TestE5ClockSetBack(t *testing.T) {
	c := newCell(t)
	c.stop()
	c.keep(time.Now().Add(3 * time.Hour))
	c.start()
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.awaitValue("queue", 7)
	if gaps := c.state().Gaps; len(gaps) != 1 || !strings.Contains(gaps[0].Why, "clock was set back") {
		t.Errorf("the vendor sees the gaps %+v", gaps)
	}
}

// Only so many requests are read at once, whoever sends them: the others are asked to come again.
func TestIntakeAtOnce(t *testing.T) {
	c := newCell(t)
	const many = 8
	answers := make(chan *http.Response, many)
	var senders sync.WaitGroup
	var ends []*io.PipeWriter
	for range many {
		body, end := io.Pipe()
		ends = append(ends, end)
		senders.Go(func() {
			r := httptest.NewRequest(http.MethodPost, "/v1/metrics", body)
			r.Header.Set("Content-Type", "application/x-protobuf")
			w := httptest.NewRecorder()
			c.Handler().ServeHTTP(w, r)
			answers <- w.Result()
		})
	}
	for range many - 3 {
		if a := <-answers; a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") != "1" {
			t.Errorf("a request beyond is answered %s, %v", a.Status, a.Header)
		}
	}
	for _, end := range ends {
		_ = end.Close()
	}
	for range 3 {
		if a := <-answers; a.StatusCode != http.StatusOK {
			t.Errorf("a request is answered %s", a.Status)
		}
	}
	senders.Wait()
	if a := c.post("/v1/metrics", "application/x-protobuf", "", nil); a.StatusCode != http.StatusOK {
		t.Errorf("afterwards a request is answered %s", a.Status)
	}
}

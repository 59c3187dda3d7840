package metrics

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// buckets returns the upper bounds of the latency histogram, in order. The last bounds are for polls that wait.
func buckets() []time.Duration {
	return []time.Duration{
		100 * time.Microsecond, 500 * time.Microsecond, 2 * time.Millisecond, 10 * time.Millisecond,
		50 * time.Millisecond,
		250 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second, 65 * time.Second,
	}
}

// Requests counts responses and their latency by route, method and code. Observe costs a lookup in an immutable map and
// two additions, since polls are frequent.
type Requests struct {
	bounds []time.Duration
	count  *prometheus.Desc
	took   *prometheus.Desc

	mu          sync.Mutex // held to add a series
	seriesByKey atomic.Pointer[map[requestKey]*series]
}

type requestKey struct {
	route, method string
	status        int
}

// series is one histogram, with a counter for each bucket and one for longer requests.
type series struct {
	within []atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func newRequests() *Requests {
	q := &Requests{
		bounds: buckets(),
		count: prometheus.NewDesc("sluice_http_requests_total", "Requests answered.",
			[]string{"route", "method", "code"}, nil),
		took: prometheus.NewDesc("sluice_http_request_seconds", "Time to answer, waiting included.",
			[]string{"route", "method", "code"}, nil),
	}
	q.seriesByKey.Store(&map[requestKey]*series{})
	return q
}

// Observe counts a response.
func (q *Requests) Observe(route, method string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete:
	default:
		method = "other"
	}
	key := requestKey{route, method, status}
	s := (*q.seriesByKey.Load())[key]
	if s == nil {
		s = q.addSeries(key)
	}
	i := 0
	for i < len(q.bounds) && took > q.bounds[i] {
		i++
	}
	s.within[i].Add(1)
	s.sum.Add(int64(took))
}

func (q *Requests) addSeries(key requestKey) *series {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := *q.seriesByKey.Load()
	if s := old[key]; s != nil {
		return s
	}
	s := &series{within: make([]atomic.Uint64, len(q.bounds)+1)}
	next := make(map[requestKey]*series, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[key] = s
	q.seriesByKey.Store(&next)
	return s
}

// Describe implements prometheus.Collector.
func (q *Requests) Describe(out chan<- *prometheus.Desc) {
	out <- q.count
	out <- q.took
}

// Collect implements prometheus.Collector.
func (q *Requests) Collect(out chan<- prometheus.Metric) {
	for key, s := range *q.seriesByKey.Load() {
		labels := []string{key.route, key.method, strconv.Itoa(key.status)}
		total, below := uint64(0), make(map[float64]uint64, len(q.bounds))
		for i := range s.within {
			total += s.within[i].Load()
			if i < len(q.bounds) {
				below[q.bounds[i].Seconds()] = total
			}
		}
		out <- prometheus.MustNewConstMetric(q.count, prometheus.CounterValue, float64(total), labels...)
		out <- prometheus.MustNewConstHistogram(q.took, total, time.Duration(s.sum.Load()).Seconds(), below, labels...)
	}
}

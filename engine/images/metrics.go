package images

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// tally counts something since the process began.
type tally struct{ atomic.Int64 }

// Inc counts one.
func (t *tally) Inc() { t.Add(1) }

// counters count what a service does.
type counters struct {
	pulls, hits, fills, failed, through, damaged, evicted tally
	filled, served                                        tally // bytes

	metrics []prometheus.Collector
}

// newCounters returns counters whose metrics show them, what the disk holds, and what heads still lack.
func newCounters(usage func() (used, quota int64), lacking func() (images, bytes int64)) *counters {
	c := &counters{}
	count := func(name, help string, t *tally) {
		o := prometheus.CounterOpts{Name: "sluice_images_" + name, Help: help}
		c.metrics = append(c.metrics, prometheus.NewCounterFunc(o, func() float64 { return float64(t.Load()) }))
	}
	gauge := func(name, help string, value func() int64) {
		o := prometheus.GaugeOpts{Name: "sluice_images_" + name, Help: help}
		c.metrics = append(c.metrics, prometheus.NewGaugeFunc(o, func() float64 { return float64(value()) }))
	}
	count("pulls_total", "Pulls of images' content by cells that were answered.", &c.pulls)
	count("hits_total", "Those of them whose content was on disk.", &c.hits)
	count("fills_total", "Fetches of images' content from a registry.", &c.fills)
	count("failed_fills_total", "Fetches that failed.", &c.failed)
	count("passed_through_total", "Reads that went through to a registry, since the disk had no room.", &c.through)
	count("damaged_total", "Files that were damaged on disk, and were removed.", &c.damaged)
	count("evicted_total", "Files that were removed to make room.", &c.evicted)
	count("filled_bytes_total", "Bytes that were fetched from registries and kept.", &c.filled)
	count("served_bytes_total", "Bytes that were sent to cells.", &c.served)
	gauge("used_bytes", "Bytes of images' content on disk, and reserved.",
		func() int64 { used, _ := usage(); return used })
	gauge("quota_bytes", "Bytes that images' content may have on disk.",
		func() int64 { _, quota := usage(); return quota })
	gauge("warming_images", "Images of channels' heads that are not all here yet.",
		func() int64 { images, _ := lacking(); return images })
	gauge("warming_bytes", "Bytes that are known to be missing of them.",
		func() int64 { _, bytes := lacking(); return bytes })
	return c
}

// Describe implements prometheus.Collector.
func (c *counters) Describe(to chan<- *prometheus.Desc) {
	for _, one := range c.metrics {
		one.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (c *counters) Collect(to chan<- prometheus.Metric) {
	for _, one := range c.metrics {
		one.Collect(to)
	}
}

// Usage is what a service did since the process began, and has on disk.
type Usage struct {
	Pulls, Hits     int64 // by cells; of them, those whose content was on disk
	Fetched, Served int64 // bytes from registries; bytes to cells
	Used, Quota     int64 // bytes on disk
	// Images of heads that are not all here, and the bytes that are known to be missing of them.
	Lacking, LackingBytes int64
	RegistriesProblem     string
}

// Usage returns the service's.
func (s *Service) Usage() Usage {
	c := s.cache.counters
	u := Usage{Pulls: c.pulls.Load(), Hits: c.hits.Load(), Fetched: c.filled.Load(), Served: c.served.Load()}
	u.Used, u.Quota = s.cache.usage()
	u.Lacking, u.LackingBytes = s.lacking()
	if err := s.upstream.registries.Fault(); err != nil {
		u.RegistriesProblem = err.Error()
	}
	return u
}

// lacking returns how many images of heads, and how many known bytes of them, are not here yet.
func (s *Service) lacking() (images, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.warm {
		if !w.Complete() {
			images, bytes = images+int64(w.Images-w.Ready), bytes+w.Bytes-w.Here
		}
	}
	return images, bytes
}

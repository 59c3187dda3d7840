package images

import (
	"github.com/prometheus/client_golang/prometheus"
)

// counters count what the cache does.
type counters struct {
	hits, fills, failed, through, damaged, evicted prometheus.Counter
	filled, served                                 prometheus.Counter
	used, quota                                    prometheus.GaugeFunc
}

func newCounters(usage func() (used, quota int64)) *counters {
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_images_" + name, Help: help})
	}
	gauge := func(name, help string, value func() int64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_images_" + name, Help: help},
			func() float64 { return float64(value()) })
	}
	return &counters{
		hits:    count("hits_total", "Reads of images' content that was on disk."),
		fills:   count("fills_total", "Fetches of images' content from a registry."),
		failed:  count("failed_fills_total", "Fetches that failed."),
		through: count("passed_through_total", "Reads that went through to a registry, since the disk had no room."),
		damaged: count("damaged_total", "Files that were damaged on disk, and were removed."),
		evicted: count("evicted_total", "Files that were removed to make room."),
		filled:  count("filled_bytes_total", "Bytes that were fetched from registries and kept."),
		served:  count("served_bytes_total", "Bytes that were sent to cells."),
		used: gauge("used_bytes", "Bytes of images' content on disk, and reserved.",
			func() int64 { used, _ := usage(); return used }),
		quota: gauge("quota_bytes", "Bytes that images' content may have on disk.",
			func() int64 { _, quota := usage(); return quota }),
	}
}

func (c *counters) all() []prometheus.Collector {
	return []prometheus.Collector{c.hits, c.fills, c.failed, c.through, c.damaged, c.evicted, c.filled, c.served,
		c.used, c.quota}
}

// Describe implements prometheus.Collector.
func (c *counters) Describe(to chan<- *prometheus.Desc) {
	for _, one := range c.all() {
		one.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (c *counters) Collect(to chan<- prometheus.Metric) {
	for _, one := range c.all() {
		one.Collect(to)
	}
}

package objects

import "sync"

// Cache keeps recently used values up to a cost, in two generations: the older generation is dropped when the younger
// is full. Safe for several goroutines.
type Cache[K comparable, V any] struct {
	generationCost int // the most that one generation costs

	mu         sync.Mutex // guards what follows
	young, old map[K]cached[V]
	cost       int
}

type cached[V any] struct {
	value V
	cost  int
}

// NewCache makes a cache of at most cost, in the unit of Put's cost.
func NewCache[K comparable, V any](cost int) *Cache[K, V] {
	return &Cache[K, V]{generationCost: cost / 2, young: map[K]cached[V]{}}
}

func (c *Cache[K, V]) Get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.young[key]; ok {
		return found.value, true
	}
	found, ok := c.old[key]
	if ok {
		c.put(key, found)
	}
	return found.value, ok
}

// Put caches a value, unless it costs more than a generation.
func (c *Cache[K, V]) Put(key K, value V, cost int) {
	if cost > c.generationCost {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(key, cached[V]{value, cost})
}

func (c *Cache[K, V]) put(key K, v cached[V]) {
	if _, ok := c.young[key]; ok {
		return
	}
	if c.cost += v.cost; c.cost > c.generationCost {
		c.old, c.young, c.cost = c.young, map[K]cached[V]{}, v.cost
	}
	c.young[key] = v
}

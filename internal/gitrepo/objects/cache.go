package objects

import "sync"

// Cache keeps what was used lately, up to a cost: two generations, the older of which is
// dropped when the younger is full. Safe for several goroutines.
type Cache[K comparable, V any] struct {
	generationCost int // cost of one generation

	mu         sync.Mutex // guards what follows
	young, old map[K]cached[V]
	cost       int
}

type cached[V any] struct {
	value V
	cost  int
}

// NewCache makes a cache of at most cost, in the unit that Put is told.
func NewCache[K comparable, V any](cost int) *Cache[K, V] {
	return &Cache[K, V]{generationCost: cost / 2, young: map[K]cached[V]{}}
}

// Get finds what Put kept.
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

// Put keeps a value for a while. What costs more than a generation is not kept.
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

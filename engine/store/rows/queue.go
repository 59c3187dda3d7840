package rows

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	maxBatch   = 512              // items that share a commit
	batchDelay = time.Millisecond // the longest that an item waits for others
)

// ErrClosed is the error of calls after Close.
var ErrClosed = errors.New("the store is closed")

// Queue gathers the items of many callers, such as reports, so that they share commits. It commits after a millisecond,
// or as soon as a batch is as large as the one before, for then all waiting callers have probably come again: a lone
// caller does not wait, and many share one write to the disk.
type Queue[T comparable] struct {
	write func(batch []T) (refused map[T]error, err error)

	mu     sync.RWMutex // read-locked while an item is enqueued; guards closed
	closed bool
	queue  chan queued[T] // closed by Close
	done   chan struct{}  // closed when the writer has ended
}

type queued[T comparable] struct {
	item   T
	result chan error // buffered: the caller may be gone
}

// NewQueue starts a queue; Close it. One goroutine calls write with batches to store, each in one durable transaction.
// err means that nothing of a batch was stored, refused names the items that were not though the others were.
func NewQueue[T comparable](write func(batch []T) (refused map[T]error, err error)) *Queue[T] {
	q := &Queue[T]{write: write, queue: make(chan queued[T], maxBatch), done: make(chan struct{})}
	go q.run()
	return q
}

// Submit enqueues an item, and waits until it is durable. If ctx ends first, the item may have been stored.
func (q *Queue[T]) Submit(ctx context.Context, item T) error {
	one := queued[T]{item, make(chan error, 1)}
	if err := q.enqueue(ctx, one); err != nil {
		return err
	}
	select {
	case err := <-one.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *Queue[T]) enqueue(ctx context.Context, one queued[T]) error {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return ErrClosed
	}
	select {
	case q.queue <- one:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Closed reports whether Close was called.
func (q *Queue[T]) Closed() bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.closed
}

// Close rejects new items, and returns when all enqueued ones are written. It may be called again.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.queue)
	}
	q.mu.Unlock()
	<-q.done
}

func (q *Queue[T]) run() {
	defer close(q.done)
	previous := 1
	for first := range q.queue {
		batch := q.collectBatch(first, previous)
		items := make([]T, len(batch))
		for i, one := range batch {
			items[i] = one.item
		}
		refused, err := q.write(items)
		for _, one := range batch {
			if err == nil {
				one.result <- refused[one.item]
			} else {
				one.result <- err
			}
		}
		previous = len(batch)
	}
}

// collectBatch collects waiting items, up to maxBatch, and waits up to batchDelay while there are fewer than enough.
func (q *Queue[T]) collectBatch(first queued[T], wanted int) []queued[T] {
	batch := []queued[T]{first}
	var timeout <-chan time.Time
	for len(batch) < maxBatch {
		select {
		case r, ok := <-q.queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
			continue
		default:
		}
		if len(batch) >= wanted {
			return batch
		}
		if timeout == nil {
			t := time.NewTimer(batchDelay)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case r, ok := <-q.queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		case <-timeout:
			return batch
		}
	}
	return batch
}

package rows

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// maxBatch is how many items share a commit at most.
const maxBatch = 512

// ErrClosed is the error of calls after Close.
var ErrClosed = errors.New("the store is closed")

// Queue gathers the items of many callers, such as reports, so that they share commits. It waits for no timer: what
// comes while a batch is written is the next batch, so that the callers and the disk are busy at the same time.
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
	for first := range q.queue {
		batch := q.collectBatch(first)
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
	}
}

// collectBatch collects waiting items, up to maxBatch, as long as callers that can run add some.
func (q *Queue[T]) collectBatch(first queued[T]) []queued[T] {
	batch := []queued[T]{first}
	for before := 0; len(batch) > before && len(batch) < maxBatch; {
		before = len(batch)
		runtime.Gosched()
		for len(q.queue) > 0 && len(batch) < maxBatch {
			batch = append(batch, <-q.queue) // there is no other reader
		}
	}
	return batch
}

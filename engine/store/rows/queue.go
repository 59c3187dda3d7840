package rows

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	maxBatch   = 512              // reports that share a commit
	batchDelay = time.Millisecond // the longest that a report waits for others
)

// ErrClosed is the error of calls after Close.
var ErrClosed = errors.New("the store is closed")

// Queue gathers the reports of many callers, so that they share commits. It commits after a millisecond, or as soon as
// a batch is as large as the one before, for then all waiting callers have probably come again: a lone caller does not
// wait, and many share one write to the disk.
type Queue struct {
	write func(batch []*Report) (refused map[*Report]error, err error)

	mu     sync.RWMutex // read-locked while a report is enqueued; guards closed
	closed bool
	queue  chan *Report  // closed by Close
	done   chan struct{} // closed when the writer has ended
}

// NewQueue starts a queue; Close it. One goroutine calls write with batches to store, each in one durable transaction.
// err means that nothing of a batch was stored, refused names the reports that were not though the others were.
func NewQueue(write func(batch []*Report) (refused map[*Report]error, err error)) *Queue {
	q := &Queue{write: write, queue: make(chan *Report, maxBatch), done: make(chan struct{})}
	go q.run()
	return q
}

// Submit enqueues a report, and waits until it is durable. If ctx ends first, the report may have been stored.
func (q *Queue) Submit(ctx context.Context, r *Report) error {
	if err := q.enqueue(ctx, r); err != nil {
		return err
	}
	select {
	case err := <-r.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *Queue) enqueue(ctx context.Context, r *Report) error {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return ErrClosed
	}
	select {
	case q.queue <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Closed reports whether Close was called.
func (q *Queue) Closed() bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.closed
}

// Close rejects new reports, and returns when all enqueued ones are written. It may be called again.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.queue)
	}
	q.mu.Unlock()
	<-q.done
}

func (q *Queue) run() {
	defer close(q.done)
	previous := 1
	for first := range q.queue {
		batch := q.collectBatch(first, previous)
		refused, err := q.write(batch)
		for _, r := range batch {
			if err == nil {
				r.result <- refused[r]
			} else {
				r.result <- err
			}
		}
		previous = len(batch)
	}
}

// collectBatch collects waiting reports, up to maxBatch, and waits up to batchDelay while there are fewer than enough.
func (q *Queue) collectBatch(first *Report, wanted int) []*Report {
	batch := []*Report{first}
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

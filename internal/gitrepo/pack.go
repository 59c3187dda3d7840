package gitrepo

import (
	"fmt"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// Pack gives the pack that Push would send: the commits of chain on base, and what is new in them. Nothing is written.
func (r *Repo) Pack(base string, chain []releases.Draft) ([]byte, error) {
	from, err := objects.ParseID(base)
	if err != nil {
		return nil, fmt.Errorf("make pack: %w", err)
	}
	list, _, err := r.self().build(from, chain)
	if err != nil {
		return nil, fmt.Errorf("make pack on %s: %w", base, err)
	}
	return objects.EncodePack(list), nil
}

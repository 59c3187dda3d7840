package plane

import (
	"context"
	"net/url"
	"strconv"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/releases"
)

// FetchTrust requests the files by which the cell verifies releases: what is newer than the root that it has; 0: the
// one that has the digest, and what is newer.
func (c *Client) FetchTrust(ctx context.Context, root int64, pin releases.Digest) (trust.Bundle, error) {
	query := url.Values{"cell": {c.cell}, "have": {strconv.FormatInt(root, 10)}}
	if root == 0 {
		query.Set("pin", string(pin))
	}
	return fetchJSON[trust.Bundle](ctx, c, "request the signers' files", "/v1/trust", query, trust.MaxBundle)
}

package plane

import (
	"context"
	"net/url"
	"strconv"

	"github.com/sluice-cd/sluice/channels/trust"
)

// FetchTrust requests the files by which the cell verifies releases: what is newer than the root that it has.
func (c *Client) FetchTrust(ctx context.Context, root int64) (trust.Bundle, error) {
	return fetchJSON[trust.Bundle](ctx, c, "request the signers' files", "/v1/trust",
		url.Values{"cell": {c.cell}, "have": {strconv.FormatInt(root, 10)}}, trust.MaxBundle)
}

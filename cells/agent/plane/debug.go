package plane

import (
	"context"
	"net/url"

	"github.com/sluice-cd/sluice/cells/debug"
)

// FetchDebug requests the open requests for debug access to the cell. None of them is checked.
func (c *Client) FetchDebug(ctx context.Context) (debug.Requests, error) {
	return fetchJSON[debug.Requests](ctx, c, "ask for requests for debug access", "/v1/debug",
		url.Values{"cell": {c.cell}}, debug.MaxRequests)
}

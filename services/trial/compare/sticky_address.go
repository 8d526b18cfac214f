package compare

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"net/http"
	"slices"
)

// forwardedFor is where a front behind another finds the client's address.
const forwardedFor = "X-Forwarded-For"

// byAddress sends an address to the replica that its rendezvous hash is highest
// with: when replicas come and go, only the addresses of those move.
var byAddress = routing{
	needs: "a front that hashes the client's address",
	order: func(r *http.Request, ready []*backend, _ uint64) []*backend {
		address := r.Header.Get(forwardedFor)
		score := func(b *backend) []byte {
			sum := sha256.Sum256([]byte(address + " " + b.Name))
			return sum[:]
		}
		return slices.SortedFunc(slices.Values(ready), func(a, b *backend) int {
			return cmp.Or(bytes.Compare(score(b), score(a)), cmp.Compare(a.Name, b.Name))
		})
	},
	answered: func(http.Header, *http.Request, *backend) {},
}

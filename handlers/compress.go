package handlers

import (
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// gzipSuffix stands at the end of the ETag of a compressed answer, whose bytes are other ones than those of the plain one.
const gzipSuffix = "-gzip"

// Compress sends answers of a kilobyte or more compressed to clients that take gzip. They are sent once all of it is compressed:
// compressing takes more memory than a megabyte.
func Compress(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.SuffixETag(gzipSuffix), gzhttp.EnableZstd(false))
	if err != nil {
		panic("compress: " + err.Error()) // the options are ours
	}
	compress := wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		collect(w, true, func(w http.ResponseWriter) { compress.ServeHTTP(w, r) })
	})
}

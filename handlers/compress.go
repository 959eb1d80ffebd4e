package handlers

import (
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// gzipSuffix is appended to the ETag of a compressed response, since its bytes differ from those of the uncompressed
// one.
const gzipSuffix = "-gzip"

// Compress compresses responses of a kilobyte or more for clients that accept gzip. A response is sent only when all of
// it is compressed, because compressing takes more than a megabyte of memory.
func Compress(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.SuffixETag(gzipSuffix), gzhttp.EnableZstd(false))
	if err != nil {
		panic("compress: " + err.Error()) // can't happen: the options are constant
	}
	compress := wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		collect(w, true, func(w http.ResponseWriter) { compress.ServeHTTP(w, r) })
	})
}

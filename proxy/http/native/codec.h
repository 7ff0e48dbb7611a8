/* The common case of HTTP/1.1 heads in C: reading one (read.c), and joining one for the next hop (write.c).
 *
 * Optional. `head` and `encode` are the whole truth in Python; what is here takes only messages of the plainest
 * form and answers None to everything else, which Python then judges: every refusal, every rare field, every
 * repeated name. So nothing is accepted here that Python would refuse (tests/property/test_http1_codec.py
 * compares the two), and a machine without a compiler loses speed alone.
 *
 * text.c does the same for lines of the access log, and for the memory of the last exchanges.
 *
 * Limited API of Python 3.11: one binary serves every later version.
 */
#ifndef MESHPY_CODEC_H
#define MESHPY_CODEC_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef unsigned char u8;

/* What an octet may be part of. */
enum { TOKEN = 1, VALUE = 2, FIRST = 4, PATH = 8, QUERY = 16, QUOTED = 32 };
extern u8 classes[256];

/* A field name: as sent, in lower case, and whether it ends at this hop. */
typedef struct {
    PyObject *name, *lower;
    int is_hop_by_hop;
} Name;

/* Borrowed references that live until the next call of this function. NULL is an error. */
Name *find_name(const char *text, Py_ssize_t size);
void fill_classes(void);

/* Given by Python (`setup`): what Python defines is never written down twice. */
enum given {
    REQUEST_CLASS, RESPONSE_CLASS, FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE, HOP_BY_HOP,
    AUTHORITIES, PARSE_AUTHORITY, GIVEN
};
extern PyObject *given[GIVEN];

int prepare_reading(void);
int prepare_heads(void); /* once the classes are given */
extern const char request_doc[], response_doc[], compose_doc[], pack_doc[], trim_doc[];
PyObject *request(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *response(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *compose(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *pack(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *trim(PyObject *self, PyObject *ignored);

#endif

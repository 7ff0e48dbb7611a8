/* Text: a line of the access log from its pieces; and what the C library keeps of memory that was freed. */
#include "codec.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { ROOM = 8192, MAX_VALUE = 2048, DIGITS = 24 };

static int put_bytes(char *line, Py_ssize_t *at, PyObject *piece)
{
    char *text;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(piece, &text, &size) < 0)
        return -1;
    if (size > MAX_VALUE || *at + size + 2 > ROOM)
        return 0;
    line[(*at)++] = '"';
    for (Py_ssize_t i = 0; i < size; i++) {
        char c = text[i];
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
            return 0;
        line[(*at)++] = c;
    }
    line[(*at)++] = '"';
    return 1;
}

static int put_number(char *line, Py_ssize_t *at, PyObject *piece)
{
    char digits[DIGITS];
    int first = DIGITS;
    long long value = PyLong_AsLongLong(piece);
    if (PyErr_Occurred())
        return -1;
    if (value < 0 || *at + DIGITS > ROOM)
        return 0;
    do
        digits[--first] = (char)('0' + value % 10);
    while (value /= 10);
    memcpy(line + *at, digits + first, DIGITS - first);
    *at += DIGITS - first;
    return 1;
}

static int put_text(char *line, Py_ssize_t *at, const char *text, Py_ssize_t size)
{
    if (!text)
        return -1;
    if (*at + size > ROOM)
        return 0;
    memcpy(line + *at, text, size);
    *at += size;
    return 1;
}

static int put_piece(char *line, Py_ssize_t *at, PyObject *piece)
{
    Py_ssize_t size = 4;
    if (PyUnicode_Check(piece)) {
        const char *text = PyUnicode_AsUTF8AndSize(piece, &size);
        return put_text(line, at, text, size);
    }
    if (PyBytes_Check(piece))
        return put_bytes(line, at, piece);
    return piece == Py_None ? put_text(line, at, "null", size) : put_number(line, at, piece);
}

const char trim_doc[] = "trim() -> None\n\nGives free pages of the C library's heap back to the kernel.";

PyObject *trim(PyObject *self, PyObject *ignored)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    Py_RETURN_NONE;
}

const char compose_doc[] =
    "compose(pieces) -> bytes | None\n\n"
    "Joins a tuple: text as it is, bytes as a JSON string, numbers, None as null. None: bytes that need escaping or\n"
    "cutting, a negative number, or a long line; Python does that.";

PyObject *compose(PyObject *self, PyObject *pieces)
{
    char line[ROOM];
    Py_ssize_t at = 0, count = PyTuple_Size(pieces);
    if (count < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        int outcome = put_piece(line, &at, PyTuple_GetItem(pieces, i));
        if (outcome <= 0)
            return outcome < 0 ? NULL : Py_NewRef(Py_None);
    }
    return PyBytes_FromStringAndSize(line, at);
}

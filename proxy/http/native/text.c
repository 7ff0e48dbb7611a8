/* Text: a line of the access log, written in place; and what the C library keeps of memory that was freed. */
#include "codec.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { MAX_VALUE = 2048, DIGITS = 20, MOST_TEXTS = 32 };

/* What stands between the values: the same tuple for line after line, so it is looked into once. */
static PyObject *known;
static struct {
    const char *text;
    Py_ssize_t size;
} between[MOST_TEXTS];
static Py_ssize_t betweens;

/* Where the next octet goes, and where the room ends. */
typedef struct {
    char *at, *end;
} Room;

static int learn(PyObject *texts)
{
    Py_ssize_t count = PyTuple_Size(texts);
    if (count < 0)
        return -1;
    if (count > MOST_TEXTS) {
        PyErr_Format(PyExc_ValueError, "at most %d texts", MOST_TEXTS);
        return -1;
    }
    Py_CLEAR(known);
    for (Py_ssize_t i = 0; i < count; i++)
        if (!(between[i].text = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(texts, i), &between[i].size)))
            return -1;
    betweens = count;
    known = Py_NewRef(texts); /* holds the texts, and they their octets */
    return 0;
}

static int put_text(Room *room, const char *text, Py_ssize_t size)
{
    if (room->end - room->at < size)
        return 0;
    memcpy(room->at, text, size);
    room->at += size;
    return 1;
}

/* Whether a JSON string may hold it as it is: U+0020 to U+007E but for quote and backslash, eight at a time. */
static int is_plain(const char *text, Py_ssize_t size)
{
    const uint64_t ones = ~(uint64_t)0 / 255, high = ones << 7;
    uint64_t odd = 0;
    for (; size >= 8; text += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\'), last = word ^ (ones * 0x7f);
        odd |= word | (word - ones * 0x20) | (quote - ones) | (slash - ones) | (last - ones);
    }
    if (odd & high)
        return 0;
    for (; size; text++, size--)
        if (!(classes[(u8)*text] & QUOTED))
            return 0;
    return 1;
}

static int put_bytes(Room *room, PyObject *value)
{
    char *text;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(value, &text, &size) < 0)
        return -1;
    if (size > MAX_VALUE || room->end - room->at < size + 2)
        return 0;
    if (!is_plain(text, size))
        return 0;
    *room->at++ = '"';
    memcpy(room->at, text, size);
    room->at += size;
    *room->at++ = '"';
    return 1;
}

static int put_number(Room *room, PyObject *value)
{
    char digits[DIGITS];
    int first = DIGITS;
    if (!PyLong_Check(value)) { /* also what has an __index__, whose code could free the room */
        PyErr_SetString(PyExc_TypeError, "a value is text, bytes, a number or None");
        return -1;
    }
    long long number = PyLong_AsLongLong(value);
    if (number < 0) {
        PyErr_Clear(); /* more than 64 bits */
        return 0;
    }
    do
        digits[--first] = (char)('0' + number % 10);
    while (number /= 10);
    return put_text(room, digits + first, DIGITS - first);
}

static int put_value(Room *room, PyObject *value)
{
    Py_ssize_t size;
    if (Py_TYPE(value) == &PyUnicode_Type) {
        const char *text = PyUnicode_AsUTF8AndSize(value, &size);
        if (!text)
            PyErr_Clear(); /* half a surrogate pair */
        return text ? put_text(room, text, size) : 0;
    }
    if (Py_TYPE(value) == &PyBytes_Type)
        return put_bytes(room, value);
    return value == Py_None ? put_text(room, "null", 4) : put_number(room, value);
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
    "compose(room, at, texts, values) -> int\n\n"
    "Writes a line into a bytearray from an offset on, each text and the value after it, and returns where it ends. A\n"
    "value is text as it is, bytes as a JSON string, a number, None as null. -1: what needs escaping or cutting, a\n"
    "number below 0 or of more than 64 bits, or no room; Python does that.";

static int write_line(Room *room, PyObject *values)
{
    int outcome = 1;
    for (Py_ssize_t i = 0; i < betweens && outcome > 0; i++) {
        outcome = put_text(room, between[i].text, between[i].size);
        if (outcome > 0)
            outcome = put_value(room, PyTuple_GetItem(values, i));
    }
    return outcome;
}

PyObject *compose(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || Py_TYPE(args[0]) != &PyByteArray_Type)
        return PyErr_Format(PyExc_TypeError, "a bytearray, an offset, texts and values");
    if (args[2] != known && learn(args[2]) < 0)
        return NULL;
    Py_ssize_t at = PyLong_AsSsize_t(args[1]), size = PyByteArray_Size(args[0]), given = PyTuple_Size(args[3]);
    if (PyErr_Occurred())
        return NULL;
    if (given != betweens || at < 0 || at > size)
        return PyErr_Format(PyExc_ValueError, "%zd texts, %zd values, from %zd of %zd", betweens, given, at, size);
    char *first = PyByteArray_AsString(args[0]);
    Room room = {first + at, first + size};
    int outcome = write_line(&room, args[3]);
    return outcome < 0 ? NULL : PyLong_FromSsize_t(outcome ? room.at - first : -1);
}

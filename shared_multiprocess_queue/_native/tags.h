/* How payloads are written: the tags of _codec/tags.py that this engine knows. A test compares the two. */

#ifndef SHMQ_TAGS_H
#define SHMQ_TAGS_H

#define TAG_PICKLE 0
#define TAG_BYTES 1
#define TAG_STR 2
#define TAG_NONE 4
#define TAG_FALSE 5
#define TAG_TRUE 6
#define TAG_INT 7
#define TAG_FLOAT 8
#define TAG_OBJECTS 9
#define TAG_BUFFERS 10
#define TAG_PLACED 12
#define NO_TAG UINT32_MAX
#define PLACED_PADDING 48 /* bytes before those of the item */

#define SHMQ_TAGS(X)                                                                                                   \
    X(PICKLE, TAG_PICKLE)                                                                                              \
    X(BYTES, TAG_BYTES)                                                                                                \
    X(STR, TAG_STR)                                                                                                    \
    X(NONE, TAG_NONE)                                                                                                  \
    X(FALSE, TAG_FALSE)                                                                                                \
    X(TRUE, TAG_TRUE)                                                                                                  \
    X(INT, TAG_INT)                                                                                                    \
    X(FLOAT, TAG_FLOAT)                                                                                                \
    X(OBJECTS, TAG_OBJECTS)                                                                                            \
    X(BUFFERS, TAG_BUFFERS)                                                                                            \
    X(PLACED, TAG_PLACED)                                                                                              \
    X(PADDING, PLACED_PADDING)

#endif

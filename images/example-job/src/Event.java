package io.drey.example;

/** One number of the sequence, on its way from the source. A POJO, so that Flink needs no Kryo. */
public class Event {
    public long number;
    public int split;
    public int subtask;
    public int key;

    public Event() {}

    Event(long number, int split, int subtask, int key) {
        this.number = number;
        this.split = split;
        this.subtask = subtask;
        this.key = key;
    }
}
